import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import InvalidRequestError, InvalidTokenError
from revokebus.web.sources import cookie_tokens, header_tokens, query_tokens


def header(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"authorization", value) for value in values)]


@pytest.mark.parametrize("value", [b"Bearer a.b.c", b"bearer a.b.c", b"BEARER   a.b.c "])
def test_the_scheme_is_case_insensitive(value: bytes) -> None:
    """A client that writes `bearer` would be locked out (RFC 9110 §11.1)."""
    assert header_tokens(header(value), b"authorization", b"bearer") == ["a.b.c"]


@pytest.mark.parametrize("values", [(), (b"",), (b"Basic YTpi",), (b"Token abc",), (b"abc",)])
def test_other_credentials_are_none(values: tuple[bytes, ...]) -> None:
    """A bare token would pass for a credential."""
    assert header_tokens(header(*values), b"authorization", b"bearer") == []


@pytest.mark.parametrize(
    "values", [(b"Bearer",), (b"Bearer ",), (b"Bearer a b",), (b"Bearer a", b"Bearer b")]
)
def test_a_malformed_header_is_invalid(values: tuple[bytes, ...]) -> None:
    """Two headers would let a proxy and the application see different users."""
    with pytest.raises((InvalidTokenError, InvalidRequestError)):
        header_tokens(header(*values), b"authorization", b"bearer")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_token_or_an_error_of_ours(value: bytes) -> None:
    """Some header would end in a 500."""
    for scheme in (b"bearer", b""):
        try:
            tokens = header_tokens(header(value), b"authorization", scheme)
        except InvalidTokenError:
            continue
        assert all(tokens)


@given(st.binary(max_size=100))
def test_any_cookie_is_a_token_or_none(value: bytes) -> None:
    """Some cookie of another application would end in a 500."""
    assert all(cookie_tokens([(b"cookie", value)], "a"))


@pytest.mark.parametrize(
    ("cookie", "tokens"),
    [
        (b"a=1", ["1"]),
        (b"b=2; a=1", ["1"]),
        (b"a=1; a=2", ["1", "2"]),
        (b"aa=1; a =2", []),
        (b"a=", []),
        (b"a", []),
        (b"a=x=y", ["x=y"]),
    ],
)
def test_every_cookie_of_the_name_is_found(cookie: bytes, tokens: list[str]) -> None:
    """A sibling domain's cookie would be used in place of ours, or beside it."""
    assert cookie_tokens([(b"cookie", cookie)], "a") == tokens
    assert cookie_tokens([(b"cookie", cookie), (b"cookie", cookie)], "a") == tokens * 2


@pytest.mark.parametrize(
    ("query", "tokens"), [(b"", []), (b"t=1&x=2", ["1"]), (b"t=1&t=2", ["1", "2"])]
)
def test_the_query_is_read(query: bytes, tokens: list[str]) -> None:
    """An EventSource, which cannot set a header, could not be authenticated."""
    assert query_tokens(query, "t") == tokens


def test_an_endless_query_is_refused() -> None:
    """A request could keep the process busy with its parameters."""
    with pytest.raises(InvalidRequestError):
        query_tokens(b"&".join([b"a=1"] * 5000), "t")


@pytest.mark.parametrize(
    "value",
    [
        *(b"Bearer\ta.b.c", b"Bearer: a.b.c", b"Bearer=a.b.c", b"Bearer,a.b.c", b"Bearer  a\tb"),
        *(b"(a.b.c)", b"\xff", b"a.b.c"),
    ],
)
def test_what_may_have_been_meant_as_a_token_is_not_passed_over(value: bytes) -> None:
    """A garbled header would make somebody a stranger, or be passed over for a cookie."""
    with pytest.raises(InvalidTokenError):
        header_tokens(header(value), b"authorization", b"bearer")


def test_an_empty_parameter_is_a_bad_token() -> None:
    """A page whose token got lost would go on as nobody."""
    with pytest.raises(InvalidTokenError):
        query_tokens(b"a=1&t=", "t")
