import pytest

from revokebus.errors import (
    CsrfError,
    ExpiredTokenError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    MissingTokenError,
    NotDurableError,
    NotReadyError,
    PredicateError,
    ReplayedTokenError,
    RevokedTokenError,
    StaleError,
    StaleSignInError,
    StoreError,
    WrongTypeError,
)
from revokebus.web.refusals import HttpError, http_error, websocket_error


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
        (
            InvalidRequestError("Two"),
            400,
            "WWW-Authenticate",
            'Bearer error="invalid_request", error_description="Two"',
        ),
        (
            StaleSignInError(300),
            401,
            "WWW-Authenticate",
            (
                'Bearer error="insufficient_user_authentication", '
                'error_description="A more recent sign-in is required", max_age="300"'
            ),
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
    assert ("Signed out here" in answer.detail) == (kind is NotDurableError)


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


def test_a_missing_csrf_header_is_no_matter_of_signing_in() -> None:
    """A page would send its user to the sign-in instead of sending the header."""
    answer = http_error(CsrfError("needs X"))
    assert (answer.status_code, answer.headers) == (403, None)


def test_a_websocket_ends_with_a_code() -> None:
    """A page could not tell `sign in again` from `come back later`."""
    assert websocket_error(RevokedTokenError()).code == 1008
    end = websocket_error(StoreError("Redis: at 10.0.0.7"))
    assert end.code == 1013
    assert "10.0.0.7" not in end.reason


def test_a_reason_fits_into_its_frame() -> None:
    """A WebSocket would break instead of being closed (RFC 6455 §5.5)."""
    end = websocket_error(NotReadyError("\u00e9" * 500))
    assert len(end.reason.encode()) <= 123
