import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import (
    ExpiredTokenError,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    NotDurableError,
    PredicateError,
    ReplayedTokenError,
    RevokedTokenError,
    StaleError,
    StoreError,
    WrongTypeError,
)
from revokebus.web.bearer import HttpError, bearer_token, http_error


def header(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"authorization", value) for value in values)]


@pytest.mark.parametrize("value", [b"Bearer a.b.c", b"bearer a.b.c", b"BEARER   a.b.c "])
def test_the_scheme_is_case_insensitive(value: bytes) -> None:
    """A client that writes `bearer` would be locked out (RFC 9110 §11.1)."""
    assert bearer_token(header(value)) == "a.b.c"


@pytest.mark.parametrize("values", [(), (b"",), (b"Basic YTpi",), (b"Token abc",), (b"a.b.c",)])
def test_other_credentials_are_none(values: tuple[bytes, ...]) -> None:
    """A bare token would pass for a credential."""
    with pytest.raises(MissingTokenError):
        bearer_token(header(*values))


@pytest.mark.parametrize(
    "values", [(b"Bearer",), (b"Bearer ",), (b"Bearer a b",), (b"Bearer a", b"Bearer b")]
)
def test_a_malformed_header_is_invalid(values: tuple[bytes, ...]) -> None:
    """Two headers would let a proxy and the application see different users."""
    with pytest.raises(InvalidTokenError):
        bearer_token(header(*values))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_token_or_an_error_of_ours(value: bytes) -> None:
    """Some header would end in a 500."""
    try:
        token = bearer_token(header(value))
    except (MissingTokenError, InvalidTokenError):
        return
    assert token


@pytest.mark.parametrize(
    ("error", "status", "name", "text"),
    [
        (MissingTokenError(), 401, "WWW-Authenticate", "Bearer"),
        (
            RevokedTokenError(),
            401,
            "WWW-Authenticate",
            'Bearer error="invalid_token", error_description="Token has been revoked"',
        ),
        (
            InsufficientScopeError(("a", "b")),
            403,
            "WWW-Authenticate",
            'Bearer error="insufficient_scope", scope="a b"',
        ),
        (StaleError("too old"), 503, "Retry-After", "1"),
        (PredicateError("broken"), 503, "Retry-After", "1"),
    ],
)
def test_each_error_has_its_answer(error: HttpError, status: int, name: str, text: str) -> None:
    """A client could not tell `sign in again` from `try again` (RFC 6750 §3)."""
    answer = http_error(error)
    assert answer.status_code == status
    assert answer.headers == {name: text}
    assert answer.detail == str(error)


@pytest.mark.parametrize("kind", [StoreError, NotDurableError])
def test_what_redis_said_stays_inside(kind: type[StoreError]) -> None:
    """A stranger would learn the address of Redis, or why it refuses."""
    answer = http_error(kind("Redis: Error 111 connecting to 10.0.0.7:6379"))
    assert (answer.status_code, answer.headers) == (503, {"Retry-After": "1"})
    assert "10.0.0.7" not in answer.detail
    assert ("applied here, not durable" in answer.detail) == (kind is NotDurableError)


def test_a_description_cannot_break_the_header() -> None:
    """A quote, a line break or an umlaut in a message would garble the answer (RFC 6750 §3)."""
    answer = http_error(InvalidTokenError('a"b\\c\r\nX: y\xfc\u20ac'))
    assert answer.headers == {
        "WWW-Authenticate": 'Bearer error="invalid_token", error_description="abcX: y"'
    }


@pytest.mark.parametrize(
    "error",
    [
        ExpiredTokenError(),
        InvalidTokenError(),
        ReplayedTokenError(),
        RevokedTokenError(),
        WrongTypeError("access"),
    ],
)
def test_a_description_fits_into_its_quotes(error: InvalidTokenError) -> None:
    """A quote in a description would break the header's syntax (RFC 6750 §3)."""
    description = str(error)
    assert description.isascii()
    assert description.isprintable()
    assert not set(description) & {'"', "\\"}
