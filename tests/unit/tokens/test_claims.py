import copy
from typing import Any

import pytest

from revokebus.errors import InvalidTokenError
from revokebus.tokens.claims import AccessToken, RefreshToken, parse_token

GOOD: dict[str, Any] = {
    "sub": "alice",
    "jti": "1",
    "sid": "s",
    "iat": 1000.25,
    "exp": 2000,
    "type": "access",
    "scope": "a b",
    "tags": ["x"],
}


def test_the_claims_become_attributes() -> None:
    """A route could not read who calls."""
    token = parse_token(GOOD)
    assert type(token) is AccessToken
    assert (token.subject, token.jti, token.session_id) == ("alice", "1", "s")
    assert (token.issued_at, token.expires_at, token.not_before) == (1000.25, 2000, 0)
    assert token.scopes == {"a", "b"}
    assert type(parse_token({**GOOD, "type": "refresh"})) is RefreshToken
    assert parse_token({**GOOD, "nbf": 5}).not_before == 5


@pytest.mark.parametrize("name", ["sub", "jti", "sid", "iat", "exp", "type"])
def test_no_claim_may_be_missing(name: str) -> None:
    """A token without a jti could never be revoked."""
    with pytest.raises(InvalidTokenError):
        parse_token({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("name", ["sub", "jti", "sid"])
@pytest.mark.parametrize("value", ["", None, 7, True, ["a"], {}, "\ud800", "x" * 5000])
def test_identifiers_are_text(name: str, value: object) -> None:
    """A token with an odd identifier would be accepted and could not be revoked."""
    with pytest.raises(InvalidTokenError):
        parse_token({**GOOD, name: value})


@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
@pytest.mark.parametrize(
    "value", [0, -5, "2000", None, True, [], float("nan"), float("inf"), 10**400, 10**15]
)
def test_moments_are_numbers_within_reason(name: str, value: object) -> None:
    """An absurd expiry would break the arithmetic of a record's lifetime."""
    with pytest.raises(InvalidTokenError):
        parse_token({**GOOD, name: value})


@pytest.mark.parametrize(
    "change", [{"type": "id"}, {"type": 1}, {"type": []}, {"scope": ["a"]}, {"scope": 5}]
)
def test_other_types_and_scopes_are_refused(change: dict[str, object]) -> None:
    """A claim of a surprising type would end in an exception in the route."""
    with pytest.raises(InvalidTokenError):
        parse_token({**GOOD, **change})


def test_claims_are_a_copy() -> None:
    """One request that changes a list of its token would change the next request's token."""
    token = parse_token(copy.deepcopy(GOOD))
    token.claims["tags"].append("admin")
    token.claims["sub"] = "root"
    assert token.claims == GOOD
    with pytest.raises(TypeError):
        token.verified_claims["jti"] = "another"  # type: ignore[index]  # on purpose


def test_deep_claims_can_be_copied() -> None:
    """A token that was accepted would end in an exception when its claims are read."""
    deep: list[Any] = []
    for _ in range(700):
        deep = [deep]
    assert parse_token({**GOOD, "deep": deep}).claims["deep"] == deep


def test_repr_leaves_private_claims_out() -> None:
    """A claim such as an e-mail address would stand in every log that shows the token."""
    assert "private" not in repr(parse_token({**GOOD, "mail": "private"}))
