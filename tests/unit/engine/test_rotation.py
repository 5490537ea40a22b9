"""What becomes of a session when the settings change, and who is the same client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    ExpiredTokenError,
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


async def test_a_lost_answer_is_given_once_more(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A phone that loses an answer would be signed out, or a copied token work without end."""
    async with Engine(make_settings(rotation_grace=10), clock=clock) as engine:
        pair = engine.issue("alice", scopes=["b", "a"], claims={"tenant": 7})
        token = await refresh_of(engine, pair)
        first = await engine.rotate(token)
        clock.advance(9)
        assert await engine.rotate(token) == first
        renewed = await engine.authenticate(first.access_token, AccessToken)
        assert renewed.scopes == {"a", "b"}
        assert renewed.claims["tenant"] == 7
        clock.advance(2)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(first.access_token, AccessToken)


async def test_a_slow_tab_is_given_the_newest_pair(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """It would be given a token that was used up, and end the session with it."""
    async with Engine(make_settings(rotation_grace=10), clock=clock) as engine:
        slow = await refresh_of(engine, engine.issue("alice"))
        second = await engine.rotate(await refresh_of(engine, await engine.rotate(slow)))
        assert await engine.rotate(slow) == second
        await engine.rotate(await refresh_of(engine, second))


async def test_a_client_that_is_named_is_the_only_one_to_be_answered_again(
    make_settings: MakeSettings,
) -> None:
    """An application that has something better than time could not use it."""
    async with Engine(make_settings(rotation_grace=30)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        first = await engine.rotate(token, client="here")
        assert await engine.rotate(token, client="here") == first
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token, client="there")


@pytest.mark.parametrize("client", ["", 5, "x" * 5000])
async def test_a_client_that_is_none_is_a_mistake_that_shows(
    make_settings: MakeSettings, client: Any
) -> None:
    """Every client would count as the same one."""
    async with Engine(make_settings()) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        with pytest.raises(ValueError, match="client"):
            await engine.rotate(token, client=client)
        assert not await engine.is_spent(token)


async def test_a_refresh_adds_nothing_to_the_copy(make_settings: MakeSettings) -> None:
    """Users who do nothing but stay signed in would fill it in a day."""
    async with Engine(make_settings()) as engine:
        pair = engine.issue("alice")
        for _ in range(200):
            pair = await engine.rotate(await refresh_of(engine, pair))
        assert engine.status().entries == 0
        assert engine.counts.replays == 0


async def test_a_replay_is_counted_and_logged(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A stolen token would leave no trace."""
    async with Engine(make_settings()) as engine:
        pair = engine.issue("alice")
        token = await refresh_of(engine, pair)
        await engine.rotate(token)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token)
        assert engine.counts.replays == 1
        (record,) = [r for r in caplog.records if getattr(r, "event", "") == "revokebus.replayed"]
        assert vars(record)["revokebus_session"] == pair.session_id
        assert vars(record)["revokebus_subject"] == "alice"
        assert pair.refresh_token not in caplog.text


async def test_a_role_that_was_taken_away_is_gone_at_the_next_refresh(
    make_settings: MakeSettings,
) -> None:
    """It would be kept for as long as the session is used."""
    async with Engine(make_settings(rotation_grace=30)) as engine:
        pair = engine.issue("alice", scopes=["admin", "read"], claims={"role": "boss", "team": 1})
        token = await refresh_of(engine, pair)
        for _ in range(2):  # the second is a repetition
            pair = await engine.rotate(token, scopes=["read"], claims={"team": 1})
            access = await engine.authenticate(pair.access_token, AccessToken)
            assert access.scopes == {"read"}
            assert "role" not in access.claims
        kept = await engine.rotate(await refresh_of(engine, pair))
        assert (await engine.authenticate(kept.access_token, AccessToken)).scopes == {"read"}
        with pytest.raises(ValueError, match="claims must not set sub"):
            await engine.rotate(await refresh_of(engine, kept), claims={"sub": "bob"})


async def test_a_lifetime_of_a_sign_in_is_kept_through_refreshes(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """Who did not ask to be remembered would be, from the first refresh on."""
    async with Engine(make_settings(), clock=clock) as engine:
        pair = engine.issue("alice", access_ttl=60, refresh_ttl=3600)
        for _ in range(3):
            assert (pair.expires_in, pair.refresh_expires_in) == (60, 3600)
            token = await refresh_of(engine, pair)
            assert token.expires_at <= clock.wall() + 3601
            clock.advance(3000)
            pair = await engine.rotate(token)
    for wrong in (0, -1, 31 * 86_400, float("nan")):
        with pytest.raises(ValueError, match="REVOKEBUS_MAX_TOKEN_LIFE"):
            engine.issue("alice", refresh_ttl=wrong)


async def test_a_lifetime_that_is_allowed_no_more_is_cut(make_settings: MakeSettings) -> None:
    """The session would be given tokens that every instance refuses."""
    settings = make_settings()
    async with Engine(settings) as engine:
        token = await refresh_of(engine, engine.issue("alice", refresh_ttl=2_000_000))
    changes = {"refresh_ttl": 1000.0, "max_token_life": 1500.0, "access_ttl": 10.0}
    shorter = Engine(settings.model_copy(update=changes))
    async with shorter as engine:
        pair = await engine.rotate(token)
        assert pair.refresh_expires_in == 1500
        await refresh_of(engine, pair)


async def test_a_session_that_is_used_goes_on_to_day_3660_unless_it_has_an_end(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A session would end though it is used, or live for ever though it must not."""
    day = 86_400
    async with Engine(make_settings(), clock=clock) as engine:
        pair = engine.issue("alice")
        for _ in range(0, 3660, 20):
            clock.advance(20 * day)
            pair = await engine.rotate(await refresh_of(engine, pair))
    async with Engine(make_settings(session_ttl=3660 * day), clock=clock) as engine:
        pair = engine.issue("alice")
        for _ in range(0, 3640, 20):
            clock.advance(20 * day)
            pair = await engine.rotate(await refresh_of(engine, pair))
        assert pair.refresh_expires_in <= 20 * day + 1
        clock.advance(20 * day - 5)
        last = await engine.rotate(await refresh_of(engine, pair))
        assert last.expires_in <= 6
        clock.advance(7)
        for encoded, kind in ((last.access_token, AccessToken), (last.refresh_token, RefreshToken)):
            with pytest.raises(ExpiredTokenError):
                await engine.authenticate(encoded, kind)


async def test_an_end_that_is_set_later_counts_from_the_sign_in(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """Old sessions would be the only ones without an end."""
    settings = make_settings()
    async with Engine(settings, clock=clock) as engine:
        pair = engine.issue("alice")
    clock.advance(1000)
    async with Engine(settings.model_copy(update={"session_ttl": 900}), clock=clock) as engine:
        token = await refresh_of(engine, pair)
        for changes in ({}, {"scopes": ["a"]}, {"claims": {"team": 1}}):
            with pytest.raises(InvalidTokenError, match="sign in again"):
                await engine.rotate(token, **changes)


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


async def test_a_list_that_redis_would_search_for_long_is_refused_at_once(
    make_settings: MakeSettings,
) -> None:
    """One client that refreshes would hold Redis up for the whole fleet."""
    groups = [str(number) for number in range(991)]
    settings = make_settings(revocable_claims=["groups"])
    async with Engine(make_settings()) as before, Engine(settings) as engine:
        pair = engine.issue("alice", claims={"groups": groups[1:]})
        await engine.rotate(await refresh_of(engine, pair))
        with pytest.raises(ValueError, match="more than 990 values of revocable_claims"):
            engine.issue("alice", claims={"groups": groups})
        old = before.issue("alice", claims={"groups": [*groups, *"abcdefgh"]})
        shorter: dict[str, object] = {"groups": []}
        for new in (None, shorter):
            with pytest.raises(InvalidTokenError, match="sign in again"):
                await engine.rotate(await refresh_of(engine, old), claims=new)
