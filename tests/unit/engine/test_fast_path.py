"""The quick way must never say yes where the slow one says no."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.engine.engine import Engine
from revokebus.errors import RevokeBusError
from revokebus.settings.settings import Settings
from revokebus.testing import ManualClock
from revokebus.tokens.claims import AccessToken, RefreshToken
from tests.support import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support import MakeSettings


def headers(encoded: str, *others: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {encoded}".encode()), *others]


@pytest.fixture
async def engine(make_settings: MakeSettings, clock: ManualClock) -> AsyncIterator[Engine]:
    async with Engine(make_settings("memory://"), clock=clock) as engine:
        yield engine


async def seen(engine: Engine) -> tuple[str, AccessToken]:
    """Return a token that was verified and recalled once."""
    encoded = engine.issue("alice").access_token
    token = await engine.authenticate(encoded, AccessToken)
    assert engine.cached_token(headers(encoded), AccessToken) is token
    return encoded, token


async def test_a_new_token_has_to_be_verified(engine: Engine) -> None:
    """Anybody could write his own."""
    encoded = engine.issue("alice").access_token
    assert engine.cached_token(headers(encoded), AccessToken) is None


async def test_a_revocation_is_seen_at_once(engine: Engine) -> None:
    """A token seen once would be good until it expires."""
    encoded, token = await seen(engine)
    other, _ = await seen(engine)
    await engine.revoke(token)
    assert engine.cached_token(headers(encoded), AccessToken) is None
    assert engine.cached_token(headers(other), AccessToken) is not None
    await engine.revoke_all()
    assert engine.cached_token(headers(other), AccessToken) is None


async def test_expiry_is_seen_at_once(engine: Engine, clock: ManualClock) -> None:
    """A token seen once would be good for ever."""
    encoded, token = await seen(engine)
    clock.advance(token.expires_at - clock.wall())
    assert engine.cached_token(headers(encoded), AccessToken) is None


async def test_the_age_of_the_copy_is_seen_at_once(engine: Engine, clock: ManualClock) -> None:
    """A bus that has lost its Redis would accept what was revoked meanwhile."""
    encoded, _ = await seen(engine)
    freshness = engine.cached_token.__self__._freshness  # type: ignore[attr-defined]  # a bound method
    freshness.proven_at = clock.elapsed() - engine.settings.max_staleness
    assert engine.cached_token(headers(encoded), AccessToken) is not None
    clock.advance(0.001)
    assert engine.cached_token(headers(encoded), AccessToken) is None


async def test_an_incomplete_copy_does_not_decide(make_settings: MakeSettings) -> None:
    """A revocation that the copy had no room for would have no effect."""
    async with Engine(make_settings("memory://")) as engine:
        encoded, _ = await seen(engine)
        engine._denylist._leave_out(engine._revoker.of_session("x", None, None))
        assert engine.cached_token(headers(encoded), AccessToken) is None


async def test_a_closed_bus_does_not_decide(make_settings: MakeSettings) -> None:
    """A bus that hears of nothing any more would go on accepting."""
    engine = Engine(make_settings("memory://"))
    async with engine:
        encoded, _ = await seen(engine)
    assert engine.cached_token(headers(encoded), AccessToken) is None
    async with engine:
        assert engine.cached_token(headers(encoded), AccessToken) is not None


async def test_a_predicate_is_always_asked(engine: Engine) -> None:
    """An account that was blocked in the application's database would stay open."""
    encoded, _ = await seen(engine)
    engine.deny_if(lambda _: True)
    assert engine.cached_token(headers(encoded), AccessToken) is None


async def test_another_type_is_refused(engine: Engine) -> None:
    """A refresh token would open routes."""
    pair = engine.issue("alice")
    await engine.authenticate(pair.refresh_token, RefreshToken)
    assert engine.cached_token(headers(pair.refresh_token), AccessToken) is None
    assert engine.cached_token(headers(pair.refresh_token), RefreshToken) is not None


async def test_only_what_most_clients_send_is_recalled(engine: Engine) -> None:
    """A second header, or junk around a token, would pass unlike the first time."""
    encoded, _ = await seen(engine)
    value = f"Bearer {encoded}".encode()
    for wrong in (
        [(b"authorization", value), (b"authorization", value)],
        [(b"authorization", value + b"=")],
        [(b"authorization", value + b" ")],
        [(b"authorization", b" " + value)],
        [(b"authorization", encoded.encode())],
        [(b"authorization", b"Basic " + encoded.encode())],
        [(b"x-authorization", value)],
        [],
    ):
        assert engine.cached_token(wrong, AccessToken) is None


async def test_a_token_of_elsewhere_is_not_recalled(make_settings: MakeSettings) -> None:
    """The CSRF check of cookies would be passed over, or a token in two places go unnoticed."""
    async with Engine(make_settings("memory://", token_sources=["header", "cookie"])) as engine:
        encoded = engine.issue("alice").access_token
        await engine.authenticate(encoded, AccessToken)
        assert engine.cached_token(headers(encoded), AccessToken) is None
        assert engine.cached_token([(b"", f"Bearer {encoded}".encode())], AccessToken) is None


steps = st.lists(
    st.sampled_from(["ask", "revoke", "subject", "session", "all", "other", "later", "back"]),
    max_size=25,
)


@given(steps)
def test_it_says_what_the_slow_way_says(history: list[str]) -> None:
    """A token would be accepted or refused depending on whether it was seen before."""
    asyncio.run(_compare(history))


async def _compare(history: list[str]) -> None:
    clock = ManualClock()
    settings = {"secret_key": SECRET, "redis_url": "memory://", "access_ttl": 60}
    async with Engine(_settings(**settings), clock=clock) as engine:
        pairs = [engine.issue(name) for name in ("alice", "bob")]
        tokens = [await engine.authenticate(pair.access_token, AccessToken) for pair in pairs]
        for step in history:
            await _do(engine, clock, step, tokens)
            for pair in pairs:
                recalled = engine.cached_token(headers(pair.access_token), AccessToken)
                try:
                    found = await engine.authenticate(pair.access_token, AccessToken)
                except RevokeBusError:
                    assert recalled is None
                else:
                    assert recalled is None or recalled is found
                    again = engine.cached_token(headers(pair.access_token), AccessToken)
                    assert again is not None


async def _do(engine: Engine, clock: ManualClock, step: str, tokens: list[AccessToken]) -> None:
    if step == "later":
        clock.advance(13)
    elif step == "back":
        clock.step(-5)
    elif step != "ask":
        await {
            "revoke": lambda: engine.revoke(tokens[0]),
            "subject": lambda: engine.revoke_subject("alice"),
            "session": lambda: engine.revoke_session(tokens[1].session_id),
            "all": lambda: engine.revoke_all(issued_before=clock.wall() - 30),
            "other": lambda: engine.revoke_subject("carol"),
        }[step]()


def _settings(**values: object) -> Settings:
    return Settings(**values)  # type: ignore[arg-type]  # pydantic checks them
