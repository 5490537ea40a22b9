"""What becomes of a session when the settings change, and who is the same client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    InvalidTokenError,
    ReplayedTokenError,
    RevokedTokenError,
)
from tests.keys import private_pem, public_pem

if TYPE_CHECKING:
    from revokebus import TokenPair
    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


async def refresh_of(engine: Engine, pair: TokenPair) -> RefreshToken:
    return await engine.authenticate(pair.refresh_token, RefreshToken)


async def test_the_same_client_gets_the_same_pair_for_a_while(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """Two tabs would sign each other out, or a thief have as long as he likes."""
    async with Engine(make_settings(rotation_grace=10), clock=clock) as engine:
        pair = engine.issue("alice", scopes=["b", "a"], claims={"tenant": 7})
        token = await refresh_of(engine, pair)
        first = await engine.rotate(token, client="here")
        clock.advance(9)
        assert await engine.rotate(token, client="here") == first
        renewed = await engine.authenticate(first.access_token, AccessToken)
        assert renewed.scopes == {"a", "b"}
        assert renewed.claims["tenant"] == 7
        clock.advance(2)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token, client="here")
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(first.access_token, AccessToken)


@pytest.mark.parametrize("client", [None, "", 5, "x" * 5000])
async def test_a_grace_without_a_client_is_a_mistake_that_shows(
    make_settings: MakeSettings, client: Any
) -> None:
    """Whoever set a grace would have none, or one for everybody."""
    async with Engine(make_settings(rotation_grace=10)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        with pytest.raises(ConfigurationError, match="client_of"):
            await engine.rotate(token, client=client)
        await engine.rotate(token, client="here")  # it was not used up


async def test_cookies_may_be_switched_on(make_settings: MakeSettings) -> None:
    """Every session from before would end at its next refresh, and with an error of 500."""
    settings = make_settings(rotation_grace=10)
    async with Engine(settings) as before:
        pair = before.issue("alice")
    with_cookies = settings.model_copy(update={"token_sources": ("header", "cookie")})
    async with Engine(with_cookies) as engine:
        token = await refresh_of(engine, pair)
        first, second = [await engine.rotate(token, client="here") for _ in range(2)]
        assert first == second
        csrf = (await engine.authenticate(first.access_token, AccessToken)).claims["csrf"]
        assert len(csrf) >= 32
        later = await engine.rotate(await refresh_of(engine, first), client="here")
        kept = (await engine.authenticate(later.access_token, AccessToken)).claims["csrf"]
        assert kept == csrf


async def test_a_session_that_cannot_go_on_is_told_before_it_is_used_up(
    make_settings: MakeSettings,
) -> None:
    """It would be exchanged for tokens that nobody accepts."""
    settings = make_settings(issuer="me", audience="api")
    async with Engine(settings) as engine:
        pair = engine.issue("alice")
    async with Engine(settings.model_copy(update={"rfc9068": True})) as engine:
        token = await refresh_of(engine, pair)
        with pytest.raises(InvalidTokenError, match="sign in again"):
            await engine.rotate(token)
        assert not await engine.is_spent(token)


async def test_who_cannot_sign_uses_no_refresh_token_up(make_settings: MakeSettings) -> None:
    """A service with the public key only would spend the token and fail."""
    here = make_settings(secret_key=None, private_key=private_pem("p256"))
    there = make_settings(secret_key=None, public_key=public_pem("p256"))
    async with Engine(here) as engine, Engine(there) as other:
        token = await refresh_of(other, engine.issue("alice"))
        with pytest.raises(ConfigurationError, match="REVOKEBUS_PRIVATE_KEY"):
            await other.rotate(token)
        assert not await other.is_spent(token)


async def test_a_pair_that_cannot_be_made_uses_nothing_up(make_settings: MakeSettings) -> None:
    """The client's next attempt would be taken for a replay, and end the session."""
    settings = make_settings()
    async with Engine(settings) as engine:
        pair = largest_pair(engine)
    larger = settings.model_copy(update={"token_sources": ("header", "cookie")})
    async with Engine(larger) as engine:
        token = await refresh_of(engine, pair)
        with pytest.raises(InvalidTokenError, match="sign in again"):
            await engine.rotate(token)
        assert not await engine.is_spent(token)


def largest_pair(engine: Engine) -> TokenPair:
    """Return tokens that have no room for another claim."""
    for length in range(12_300, 11_000, -1):
        with contextlib.suppress(ValueError):
            return engine.issue("alice", claims={"long": "x" * length})
    raise AssertionError
