"""What ends, and when, of the things that stand open on the strength of a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    ExpiredTokenError,
    NotReadyError,
    RevokedTokenError,
    StaleError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from revokebus.settings.settings import OnStale
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
    engine._freshness.prove(engine._clock.elapsed())  # and never again: an outage
    task = asyncio.create_task(hold(engine, token, on_stale))
    await asyncio.sleep(0.01)
    engine._freshness.prove(engine._clock.elapsed() - 1.0)
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
        loop.set_debug(False)  # which remembers for each task where it was made
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


async def test_one_guard_is_for_one_body(engine: Engine) -> None:
    """The second body would take the protection away from the first."""
    guard = engine.guard(await access(engine))
    async with guard:
        with pytest.raises(RuntimeError, match="one `async with`"):
            async with guard:
                pytest.fail("entered")
    with pytest.raises(RuntimeError):
        await guard.__aenter__()


async def test_a_body_that_has_left_its_task_is_told_of(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that nothing can end would go on in silence."""
    token = await access(engine)

    async def stream() -> AsyncIterator[int]:
        async with engine.guard(token):
            for number in range(100):
                yield number

    items = stream()
    assert await asyncio.create_task(anext(items)) == 0  # type: ignore[arg-type]  # a coroutine
    await engine.revoke(token)
    assert "use bus.guarded" in caplog.text
    assert len(engine._guards) == 0


async def test_a_guarded_stream_ends_whoever_iterates_over_it(engine: Engine) -> None:
    """A stream with a heartbeat, which has a task for each item, would not end."""
    token = await access(engine)
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        waiting.set()
        await asyncio.Event().wait()

    items = engine.guarded(token, source())
    for expected in (1, 2):
        assert await asyncio.create_task(anext(items)) == expected
    last: asyncio.Task[int] = asyncio.create_task(anext(items))
    await waiting.wait()
    await engine.revoke(token)
    with pytest.raises(StopAsyncIteration):
        await last
    assert [item async for item in engine.guarded(token, source())] == []
    other = await access(engine)
    assert [item async for item in engine.guarded(other, _three())] == [1, 2, 3]


async def _three() -> AsyncIterator[int]:
    for number in (1, 2, 3):
        yield number


async def test_an_error_of_the_source_is_not_taken_for_an_end(engine: Engine) -> None:
    """A stream would look complete although it broke off."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise StaleError("of the application's own")

    items = engine.guarded(await access(engine), source())
    assert await anext(items) == 1
    with pytest.raises(StaleError):
        await anext(items)


async def test_an_abandoned_stream_is_let_go(engine: Engine) -> None:
    """Each client that stops reading would leave its guard behind."""
    token = await access(engine)
    suspended = asyncio.Event()

    async def stream() -> AsyncIterator[int]:
        async with engine.guard(token):
            yield 1

    async def consume() -> None:
        async for _ in stream():
            suspended.set()
            await asyncio.Event().wait()  # a client that does not read

    task = asyncio.create_task(consume())
    await suspended.wait()
    await engine.revoke(token)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(engine._guards) == 0
    assert not engine._guards._about


async def test_only_types_that_are_checked_are_ended(make_settings: MakeSettings) -> None:
    """A connection would end for a revocation that requests do not count."""
    settings = make_settings(checked_token_types=["refresh"])
    async with Engine(settings) as engine:
        token = await access(engine)
        async with engine.guard(token):
            await engine.revoke(token)
            await asyncio.sleep(0.01)


async def test_a_suspended_machine_ends_what_has_expired_meanwhile(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """The loop's timers stand still while a laptop sleeps, and the token would live on."""
    settings = make_settings(access_ttl=60, max_staleness=0.3)
    async with Engine(settings, clock=clock) as engine:
        (task,) = await opened(engine, await access(engine))
        clock.advance(3600)
        with pytest.raises(ExpiredTokenError):
            await task


@pytest.mark.parametrize("end", ["revoked", "left", "not begun"])
async def test_the_source_of_a_stream_is_closed(engine: Engine, end: str) -> None:
    """A subscription of the application's own would stay open until the garbage collector comes."""
    token = await access(engine)
    closed = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    items = engine.guarded(token, source())
    if end == "not begun":
        await engine.revoke(token)
        assert [item async for item in items] == []
        return  # what was never begun has nothing to close
    assert await anext(items) == 1
    if end == "revoked":
        await engine.revoke(token)
        assert [item async for item in items] == []
    else:
        await items.aclose()
    assert closed.is_set()


async def test_a_guard_entered_at_the_moment_of_expiry_ends(engine: Engine) -> None:
    """Who opens many connections around the expiry would keep one for good."""
    token = await access(engine)
    readings = iter([1e-6, -1e-6])
    # The clock goes on between two readings.
    engine._guards.remaining = lambda token: next(readings, -1.0)  # type: ignore[method-assign]  # noqa: ARG005
    with pytest.raises(ExpiredTokenError):
        async with asyncio.timeout(5):
            await hold(engine, token)


async def test_where_redis_was_asked_a_guard_begins(make_settings: MakeSettings) -> None:
    """With `ask_redis` requests would pass, and no connection open."""
    async with Engine(make_settings(on_stale="ask_redis", max_staleness=0.3)) as engine:
        token = await access(engine)
        engine._freshness.prove(engine._clock.elapsed() - 1.0)  # a broken subscription
        assert [item async for item in engine.guarded(token, _three())] == [1, 2, 3]
        with pytest.raises(StaleError):
            await hold(engine, token)


async def test_a_stream_ends_with_the_bus(engine: Engine) -> None:
    """Each stream would write a traceback into the log at every deployment."""
    items = engine.guarded(await access(engine), _three())
    assert await anext(items) == 1
    await engine.close()
    assert [item async for item in items] == []
