from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.clock import ExpiryClock
from revokebus.denylist.freshness import Freshness
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    ExpiredTokenError,
    InvalidTokenError,
    NotReadyError,
    PredicateError,
    ReplayedTokenError,
    RevokedTokenError,
    WrongTypeError,
)
from revokebus.replication.feed import Feed
from revokebus.replication.memory_backend import MemoryBackend
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from revokebus.denylist.denylist import Denylist
    from tests.support import MakeSettings


@pytest.fixture
async def engine(make_settings: MakeSettings, clock: ManualClock) -> AsyncIterator[Engine]:
    async with Engine(make_settings(), clock=clock) as running:
        yield running


async def test_a_revoked_token_is_refused_and_another_is_not(engine: Engine) -> None:
    """Logging out would not work, or log out everybody."""
    alice, bob = engine.issue("alice"), engine.issue("bob")
    token = await engine.authenticate(alice.access_token, AccessToken)
    receipt = await engine.revoke(token)
    assert receipt.revocations == 1
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(alice.access_token, AccessToken)
    await engine.authenticate(bob.access_token, AccessToken)
    await engine.authenticate(alice.refresh_token, RefreshToken)
    assert engine.is_revoked(token.claims)
    assert engine.status().entries == 1


async def test_an_encoded_token_can_be_revoked(engine: Engine) -> None:
    """A support tool that has only the string could not revoke it."""
    pair = engine.issue("alice")
    await engine.revoke(pair.refresh_token)
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(pair.refresh_token, RefreshToken)
    with pytest.raises(InvalidTokenError):
        await engine.revoke("nonsense")
    with pytest.raises(TypeError, match="encoded form"):
        await engine.revoke(pair)  # type: ignore[arg-type]  # on purpose


async def test_memory_says_that_it_is_not_shared(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """With several workers a revoked token would go on working in the others, without a word."""
    async with Engine(make_settings()):
        assert "memory:// keeps revocations in this process" in caplog.text
    async with Engine(make_settings(denylist_enabled=False)):
        assert "denylist_enabled is off" in caplog.text


async def test_revoking_twice_is_harmless(engine: Engine) -> None:
    """A double click on log-out would end in an error."""
    pair = engine.issue("alice")
    first, second = await engine.revoke(pair.access_token), await engine.revoke(pair.access_token)
    assert first == second
    assert engine.status().entries == 1


async def test_an_expired_token_needs_no_record(engine: Engine, clock: ManualClock) -> None:
    """Logging out late would end in an error, or leave a record for ever."""
    pair = engine.issue("alice")
    clock.advance(engine.settings.access_ttl + 1)
    receipt = await engine.revoke(pair.access_token)
    assert receipt.revocations == 0
    assert engine.status().entries == 0


async def test_the_record_lives_as_long_as_the_token(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A revoked token would work again in its last seconds, those of the leeway."""
    async with Engine(make_settings(leeway=10, access_ttl=60), clock=clock) as engine:
        pair = engine.issue("alice")
        await engine.revoke(pair.access_token)
        clock.advance(69)
        await engine.revoke(engine.issue("bob").access_token)  # adding sweeps
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)


@pytest.mark.parametrize("leeway", [0, 30])
async def test_a_revoked_session_stays_so_to_its_tokens_last_moment(
    make_settings: MakeSettings, clock: ManualClock, leeway: float
) -> None:
    """A session revoked just after its sign-in would come back for its last second."""
    clock.advance(0.3 - clock.wall() % 1)
    ahead = ManualClock()
    ahead.step(clock.wall() + leeway - ahead.wall())
    settings = make_settings(leeway=leeway, refresh_ttl=60, access_ttl=60)
    async with Engine(settings, clock=clock) as engine:
        pair = Engine(settings, clock=ahead).issue("alice")  # an instance with a faster clock
        await engine.revoke_session(pair.session_id)
        for _ in range(1000):
            clock.advance(0.1)
            engine._denylist.sweep(10)
            with pytest.raises((RevokedTokenError, ExpiredTokenError)):
                await engine.authenticate(pair.refresh_token, RefreshToken)


async def test_a_session_is_revoked_as_one(engine: Engine) -> None:
    """Signing a device out would leave its refresh token alive."""
    pair, other = engine.issue("alice"), engine.issue("alice")
    await engine.revoke_session(pair.session_id)
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(pair.access_token, AccessToken)
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(pair.refresh_token, RefreshToken)
    await engine.authenticate(other.access_token, AccessToken)


@pytest.mark.parametrize("wanted", [AccessToken, RefreshToken])
async def test_a_token_of_the_other_type_is_refused(
    engine: Engine, wanted: type[AccessToken | RefreshToken]
) -> None:
    """A refresh token would open every route for thirty days."""
    pair = engine.issue("alice")
    other = pair.refresh_token if wanted is AccessToken else pair.access_token
    with pytest.raises(WrongTypeError, match=wanted.type):
        await engine.authenticate(other, wanted)


async def test_rotation_keeps_who_and_what(engine: Engine) -> None:
    """A refreshed session would lose its scopes, its claims or its name."""
    pair = engine.issue("alice", scopes=["a"], claims={"team": 7}, fresh=True)
    old = await engine.authenticate(pair.refresh_token, RefreshToken)
    renewed = await engine.rotate(old)
    access = await engine.authenticate(renewed.access_token, AccessToken)
    assert (access.subject, access.session_id, access.scopes) == (
        "alice",
        old.session_id,
        frozenset({"a"}),
    )
    assert access.claims["team"] == 7
    assert "fresh" not in access.claims
    await engine.authenticate(renewed.refresh_token, RefreshToken)


async def test_a_replay_revokes_the_session(engine: Engine) -> None:
    """A thief with a copied refresh token would stay signed in (RFC 9700 §4.14.2)."""
    pair = engine.issue("alice")
    old = await engine.authenticate(pair.refresh_token, RefreshToken)
    renewed = await engine.rotate(old)
    with pytest.raises(ReplayedTokenError):
        await engine.rotate(old)
    for encoded, kind in (
        (pair.access_token, AccessToken),
        (renewed.access_token, AccessToken),
        (renewed.refresh_token, RefreshToken),
    ):
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(encoded, kind)


async def test_a_revoked_refresh_token_cannot_be_rotated(engine: Engine) -> None:
    """A request that was let in a moment before the log-out would get a new pair."""
    pair = engine.issue("alice")
    token = await engine.authenticate(pair.refresh_token, RefreshToken)
    await engine.revoke(token)
    with pytest.raises(RevokedTokenError):
        await engine.rotate(token)


async def test_only_a_refresh_token_can_be_rotated(engine: Engine) -> None:
    """An access token of fifteen minutes would buy a session of thirty days."""
    token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
    with pytest.raises(TypeError, match="RefreshToken"):
        await engine.rotate(token)  # type: ignore[arg-type]  # on purpose


async def test_a_token_that_expires_meanwhile_is_no_replay(
    engine: Engine, clock: ManualClock
) -> None:
    """A request that waits a moment too long would end the whole session."""
    pair = engine.issue("alice")
    token = await engine.authenticate(pair.refresh_token, RefreshToken)
    clock.advance(engine.settings.refresh_ttl + 1)
    with pytest.raises(ExpiredTokenError):
        await engine.rotate(token)
    assert engine.status().entries == 0


async def test_revoking_while_the_clock_is_ahead_holds(engine: Engine, clock: ManualClock) -> None:
    """A log-out during a step of the wall clock would be forgotten when it is set right."""
    pair = engine.issue("alice")
    clock.step(2000)
    assert (await engine.revoke(pair.access_token)).revocations == 1
    clock.step(-2000)
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(pair.access_token, AccessToken)


@pytest.mark.parametrize("session_id", ["", "x" * 5000, "\ud800", 7, None])
async def test_a_session_id_that_cannot_be_is_refused(engine: Engine, session_id: str) -> None:
    """A mistake of the caller would be reported as done, and ignored by the other instances."""
    with pytest.raises(ValueError, match="session_id"):
        await engine.revoke_session(session_id)


@pytest.mark.parametrize("claim", ["sub", "sid", "jti"])
@pytest.mark.parametrize("value", [42, 4.5, True])
async def test_what_no_token_can_have_is_not_revoked(
    engine: Engine, claim: str, value: float
) -> None:
    """A user whose id was given as a number would stay signed in, without an error."""
    with pytest.raises(ValueError, match="text"):
        await engine.revoke_claim(claim, value)
    assert engine.status().entries == 0


class SlowBackend(MemoryBackend):
    """Takes its time to start, until it is told."""

    def __init__(self, denylist: Denylist, clock: ManualClock) -> None:
        super().__init__(
            denylist, clock, Freshness(clock, ExpiryClock(clock), 30.0), Feed(clock), 60.0, 30.0
        )
        self.go_on, self.stopped = asyncio.Event(), False

    async def start(self) -> None:
        await self.go_on.wait()

    async def stop(self) -> None:
        self.stopped = True
        if self.go_on.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.go_on.wait()


async def test_a_start_that_is_under_way_is_not_started_again(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """Two starts at once would leave tasks behind that no close ends."""
    engine = Engine(make_settings(), clock=clock)
    slow = engine._backend = SlowBackend(engine._denylist, clock)
    first = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    with pytest.raises(ConfigurationError):
        await engine.start()
    assert engine.status().state == "starting"
    await engine.close()
    assert slow.stopped
    slow.go_on.set()
    await first
    assert engine.status().state == "closed"


async def test_a_close_that_is_under_way_refuses_a_start(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A restart during the stop would lose its connections to the stop."""
    engine = Engine(make_settings(), clock=clock)
    slow = engine._backend = SlowBackend(engine._denylist, clock)
    slow.go_on.set()
    await engine.start()
    slow.go_on.clear()
    close = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    assert engine.status().state == "closed"
    with pytest.raises(ConfigurationError):
        await engine.start()
    slow.go_on.set()
    await close
    await engine.start()


async def test_the_denylist_can_be_limited_to_a_type(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A setting would have no effect."""
    async with Engine(make_settings(checked_token_types="refresh"), clock=clock) as engine:
        pair = engine.issue("alice")
        await engine.revoke(pair.access_token)
        await engine.revoke(pair.refresh_token)
        await engine.authenticate(pair.access_token, AccessToken)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.refresh_token, RefreshToken)


async def test_the_denylist_can_be_off_and_then_revoking_says_so(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """An application would believe that it has revoked what nothing refuses."""
    settings = make_settings("redis://127.0.0.1:1/0", denylist_enabled=False)
    async with Engine(settings, clock=clock) as engine:
        pair = engine.issue("alice")
        token = await engine.authenticate(pair.refresh_token, RefreshToken)
        with pytest.raises(ConfigurationError, match="REVOKEBUS_DENYLIST_ENABLED"):
            await engine.revoke(token)
        with pytest.raises(ConfigurationError, match="REVOKEBUS_DENYLIST_ENABLED"):
            await engine.rotate(token)


async def test_nothing_is_decided_before_the_start_or_after_the_end(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """An application whose lifespan did not run would accept revoked tokens."""
    engine = Engine(make_settings(), clock=clock)
    pair = engine.issue("alice")
    assert engine.status().state == "starting"
    with pytest.raises(NotReadyError, match="TestClient"):
        await engine.authenticate(pair.access_token, AccessToken)
    with pytest.raises(NotReadyError):
        await engine.revoke(pair.access_token)
    async with engine:
        assert engine.status().state == "fresh"
        await engine.revoke(pair.access_token)
        with pytest.raises(ConfigurationError):
            await engine.start()
    assert engine.status().state == "closed"
    with pytest.raises(NotReadyError):
        await engine.authenticate(engine.issue("bob").access_token, AccessToken)
    await engine.close()
    async with engine:
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)


async def test_a_local_hit_refuses_in_every_state(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A client would be told to try again with a token that is known to be revoked."""
    engine = Engine(make_settings(), clock=clock)
    async with engine:
        pair = engine.issue("alice")
        await engine.revoke(pair.access_token)
    with pytest.raises(RevokedTokenError):
        await engine.authenticate(pair.access_token, AccessToken)


def drive(check: Coroutine[object, object, AccessToken]) -> AccessToken:
    """Run a coroutine that must not wait: a single step has to end it."""
    with pytest.raises(StopIteration) as finished:
        check.send(None)
    token: AccessToken = finished.value.value
    return token


async def test_a_check_waits_for_nothing(engine: Engine) -> None:
    """Every request would pay for a turn of the event loop, or worse, for the network."""
    pair = engine.issue("alice")
    assert drive(engine.authenticate(pair.access_token, AccessToken)).subject == "alice"


class TestPredicates:
    """The application's own checks."""

    @pytest.mark.parametrize("answer", [True, False])
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_sync_and_async_ones_decide(
        self, engine: Engine, *, answer: bool, is_async: bool
    ) -> None:
        """A ban list of the application would have no effect."""
        asked: list[str] = []

        def banned(token: AccessToken | RefreshToken) -> bool:
            asked.append(token.subject)
            return answer

        async def banned_later(token: AccessToken | RefreshToken) -> bool:
            await asyncio.sleep(0)
            return banned(token)

        engine.deny_if(banned_later if is_async else banned)
        pair = engine.issue("alice")
        if answer:
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(pair.access_token, AccessToken)
        else:
            await engine.authenticate(pair.access_token, AccessToken)
        assert asked == ["alice"]

    async def test_a_revocation_while_it_waits_is_seen(self, engine: Engine) -> None:
        """A request could outrun the log-out by as long as the predicate takes."""
        pair = engine.issue("alice")

        @engine.deny_if
        async def slow(token: AccessToken | RefreshToken) -> bool:
            await engine.revoke(token)
            return False

        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)

    async def test_an_exception_refuses_and_is_logged(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A ban list that cannot be read would let everybody in."""

        @engine.deny_if
        async def broken(token: AccessToken | RefreshToken) -> bool:
            raise OSError(f"no database for {token.subject}")

        pair = engine.issue("alice")
        with pytest.raises(PredicateError), caplog.at_level(logging.ERROR):
            await engine.authenticate(pair.access_token, AccessToken)
        assert "no database for alice" in caplog.text
        assert pair.access_token not in caplog.text

    @pytest.mark.parametrize("answer", [None, 0, "", "no", 1])
    async def test_only_a_bool_is_an_answer(
        self, engine: Engine, answer: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A predicate that forgets to return would let everybody in."""
        engine.deny_if(lambda _token: answer)  # type: ignore[type-var]  # on purpose
        with pytest.raises(PredicateError):
            await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        assert type(answer).__name__ in caplog.text

    async def test_it_is_asked_for_the_checked_types_only(
        self, make_settings: MakeSettings, clock: ManualClock
    ) -> None:
        """A check meant for refresh tokens would be paid for by every request."""
        async with Engine(make_settings(checked_token_types="refresh"), clock=clock) as engine:
            engine.deny_if(lambda _token: True)
            pair = engine.issue("alice")
            await engine.authenticate(pair.access_token, AccessToken)
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(pair.refresh_token, RefreshToken)

    async def test_it_is_asked_also_without_a_denylist(
        self, make_settings: MakeSettings, clock: ManualClock
    ) -> None:
        """Switching the local copy off would switch the application's own check off."""
        async with Engine(make_settings(denylist_enabled=False), clock=clock) as engine:
            engine.deny_if(lambda _token: True)
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(engine.issue("alice").access_token, AccessToken)
