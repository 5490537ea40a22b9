"""What ends, and when, of the things that stand open on the strength of a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken
from revokebus.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    ExpiredTokenError,
    NotReadyError,
    RevokedTokenError,
    StaleError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from revokebus.settings import OnStale
    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


@pytest.fixture
async def engine(make_settings: MakeSettings) -> AsyncIterator[Engine]:
    settings = make_settings(revocable_claims=["tenant"], max_staleness=0.3)
    async with Engine(settings) as engine:
        yield engine


async def access(engine: Engine, subject: str = "alice", **claims: object) -> AccessToken:
    pair = engine.issue(subject, claims=claims)
    return await engine.authenticate(pair.access_token, AccessToken)


async def hold(engine: Engine, token: AccessToken, on_stale: OnStale | None = None) -> str:
    async with engine.guard(token, on_stale=on_stale):
        await asyncio.Event().wait()
    return "never"


async def opened(engine: Engine, *tokens: AccessToken) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(hold(engine, token)) for token in tokens]
    while len(engine._guards) < len(tokens):  # noqa: ASYNC110 - it sets no event
        await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("by", ["jti", "sid", "sub", "tenant", "everything"])
async def test_each_kind_of_revocation_ends_what_it_refuses(engine: Engine, by: str) -> None:
    """A user would be signed out, and his WebSocket stay open."""
    mine, other = await access(engine, tenant=1), await access(engine, "bob", tenant="1")
    first, second = await opened(engine, mine, other)
    ends: dict[str, Any] = {
        "jti": lambda: engine.revoke(mine),
        "sid": lambda: engine.revoke_session(mine.session_id),
        "sub": lambda: engine.revoke_subject("alice"),
        "tenant": lambda: engine.revoke_claim("tenant", 1),
        "everything": engine.revoke_all,
    }
    await ends[by]()
    with pytest.raises(RevokedTokenError):
        await first
    if by == "everything":
        with pytest.raises(RevokedTokenError):
            await second
    else:
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    assert len(engine._guards) == 0
    assert not engine._guards._about


async def test_a_claim_that_only_others_have_configured_ends_it_too(engine: Engine) -> None:
    """During a deployment, half of the fleet would leave WebSockets open."""
    token = await access(engine, team="x")
    (task,) = await opened(engine, token)
    newer = Engine(engine.settings.model_copy(update={"revocable_claims": ("team",)}))
    engine._denylist.add(newer._revoker.of_claim("team", "x", None, None))
    with pytest.raises(RevokedTokenError):
        await task


async def test_a_cut_off_before_the_token_ends_nothing(engine: Engine) -> None:
    """Who signs in anew would be cut off by the sign-out before."""
    token = await access(engine)
    (task,) = await opened(engine, token)
    await engine.revoke_subject("alice", token.since - 1)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_it_ends_at_expiry(make_settings: MakeSettings) -> None:
    """A token of a second would be good for as long as one stays connected."""
    async with Engine(make_settings(access_ttl=0.05)) as engine:
        token = await access(engine)
        with pytest.raises(ExpiredTokenError):
            await hold(engine, token)


async def test_an_expired_or_revoked_token_does_not_begin(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A body would run for a token that is worth nothing."""
    async with Engine(make_settings(), clock=clock) as engine:
        revoked, expired = await access(engine), await access(engine)
        await engine.revoke(revoked)
        with pytest.raises(RevokedTokenError):
            await hold(engine, revoked)
        clock.advance(3600)
        with pytest.raises(ExpiredTokenError):
            await hold(engine, expired)
        assert len(engine._guards) == 0


async def test_a_revocation_during_the_first_check_is_not_missed(engine: Engine) -> None:
    """Between the check and the beginning there would be a moment in which nobody listens."""
    token = await access(engine)
    check = engine._checker.require_unrevoked

    async def slow(*arguments: Any) -> None:
        await check(*arguments)
        await engine.revoke(token)

    engine._checker.require_unrevoked = slow  # type: ignore[method-assign,assignment]  # to come in between
    with pytest.raises(RevokedTokenError):
        await hold(engine, token)
    assert len(engine._guards) == 0


@pytest.mark.parametrize("on_stale", ["reject", "ask_redis", "accept"])
async def test_it_ends_when_nobody_knows_any_more(engine: Engine, on_stale: OnStale) -> None:
    """While Redis is away, what was revoked elsewhere would stay open (G1)."""
    token = await access(engine)
    age = 0.0
    engine._upstream.age = lambda: age  # type: ignore[method-assign]  # an outage
    task = asyncio.create_task(hold(engine, token, on_stale))
    await asyncio.sleep(0.01)
    age = 1.0
    if on_stale == "accept":
        await asyncio.wait([task], timeout=0.5)
        assert not task.done()
        task.cancel()
    else:
        with pytest.raises(StaleError):
            await task


async def test_it_ends_with_the_bus(engine: Engine) -> None:
    """Nothing would ever end it again."""
    token = await access(engine)
    (task,) = await opened(engine, token)
    await engine.close()
    with pytest.raises(NotReadyError):
        await task
    with pytest.raises(NotReadyError):
        await hold(engine, token)


async def test_the_body_s_own_end_is_its_own(engine: Engine) -> None:
    """An error of the application would be told as a revocation, or the reverse."""
    token = await access(engine)
    async with engine.guard(token):
        pass
    with pytest.raises(ZeroDivisionError):
        async with engine.guard(token):
            _ = 1 / 0
    with pytest.raises(TimeoutError):
        async with engine.guard(token), asyncio.timeout(0):
            await asyncio.sleep(1)
    (task,) = await opened(engine, token)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(engine._guards) == 0
    assert engine._guards._timer is None


async def test_two_for_one_token_both_end(engine: Engine) -> None:
    """Of two tabs one would stay open."""
    token = await access(engine)

    async def nested() -> None:
        async with engine.guard(token), engine.guard(token):
            await engine.revoke(token)
            await asyncio.Event().wait()

    with pytest.raises(RevokedTokenError):
        await nested()
    assert len(engine._guards) == 0


async def test_10_000_open_guards_have_no_task_and_do_not_poll(
    make_settings: MakeSettings,
) -> None:
    """A chat server would double its tasks, and wake for each of them."""
    async with Engine(make_settings()) as engine:
        loop, before = asyncio.get_running_loop(), len(asyncio.all_tasks())
        tokens = [await access(engine, f"user-{number % 100}") for number in range(10_000)]
        tasks = await opened(engine, *tokens)
        assert len(asyncio.all_tasks()) == before + 10_000  # those of the bodies
        timers = len(loop._scheduled)  # type: ignore[attr-defined]  # asyncio's own list
        assert timers <= 10_000 + 5
        # A revocation looks at those that it is about, and at nobody else.
        looked_at: list[object] = []
        for guard in engine._guards._open:
            guard.end = looked_at.append  # type: ignore[method-assign,assignment]  # to count
        await engine.revoke(tokens[0])
        assert len(looked_at) == 1
        await engine.revoke_subject("user-7")
        assert len(looked_at) == 101
        for guard in engine._guards._open:
            del guard.end
        await engine.revoke_all()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {RevokedTokenError}
        assert len(engine._guards) == 0


def test_a_guard_is_on_the_loop_of_the_bus(make_settings: MakeSettings) -> None:
    """A revocation would cancel a task of another thread's loop."""
    engine = Engine(make_settings())

    async def begin() -> AccessToken:
        await engine.start()
        return await access(engine)

    with asyncio.Runner() as first, asyncio.Runner() as second:
        token = first.run(begin())
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run(hold(engine, token))
        first.run(engine.close())
