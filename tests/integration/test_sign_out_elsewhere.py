"""All sessions of a user end, but the one that asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import RevokedTokenError
from tests.support import until_quiet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

    from revokebus.testing import RedisServer
    from revokebus.tokens.issuer import TokenPair
    from tests.support import Eventually, MakeSettings


@pytest.fixture
async def engine(make_settings: MakeSettings) -> AsyncIterator[Engine]:
    async with Engine(make_settings()) as engine:
        yield engine


async def is_accepted(engine: Engine, pair: TokenPair) -> bool:
    try:
        await engine.authenticate(pair.access_token, AccessToken)
    except RevokedTokenError:
        return False
    return True


async def refreshed(engine: Engine, pair: TokenPair) -> TokenPair:
    return await engine.rotate(await engine.authenticate(pair.refresh_token, RefreshToken))


async def test_only_the_session_that_asks_goes_on(
    fleet: list[Engine], eventually: Eventually
) -> None:
    """A password change would sign out the user who makes it, or leave the thief signed in."""
    here, there, third = fleet
    mine, other = here.issue("alice"), there.issue("alice")
    assert await is_accepted(third, mine)
    await here.revoke_subject("alice", keep=mine.session_id)
    await eventually(lambda: there.status().entries == third.status().entries == 1)
    for engine in fleet:
        assert await is_accepted(engine, mine)
        assert not await is_accepted(engine, other)
        with pytest.raises(RevokedTokenError):
            await refreshed(engine, other)
    for engine in fleet:  # it goes on by its refresh tokens, at any instance
        mine = await refreshed(engine, mine)
        assert await is_accepted(engine, mine)
    assert await is_accepted(there, there.issue("alice"))


async def test_one_who_starts_later_knows_which_session_goes_on(
    fleet: list[Engine], redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A deployment would sign the user out, or the thief in."""
    mine, other = fleet[0].issue("alice"), fleet[0].issue("alice")
    await fleet[0].revoke_subject("alice", keep=mine.session_id)
    async with Engine(make_settings(redis_server.url)) as late:
        assert await is_accepted(late, mine)
        assert not await is_accepted(late, other)


async def test_it_is_written_back_as_it_was(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """After Redis has lost its data the session would end, or others come back."""
    here, there, _ = fleet
    mine, ended, other = (here.issue("alice") for _ in range(3))
    await here.revoke_subject("alice", keep=ended.session_id)
    await there.revoke_subject("alice", keep=mine.session_id)  # both keep nothing but mine ended
    await eventually(lambda: all(each.status().entries == 1 for each in fleet))
    key = "{revokebus}:r:sub:alice"
    held = client.get(key)
    client.flushall()
    await eventually(lambda: client.get(key) == held)
    for pair in (mine, ended, other):
        assert not await is_accepted(here, pair)


async def test_redis_is_asked_which_session_goes_on(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """With ``ask_redis`` the session would end whenever the copy is too old."""
    settings = make_settings(redis_server.url, on_stale="ask_redis")
    async with Engine(settings) as here, Engine(settings) as there:
        mine, other = here.issue("alice"), here.issue("alice")
        await here.revoke_subject("alice", keep=mine.session_id)
        await until_quiet(there)
        for pair, refused in ((mine, False), (other, True)):
            token = await there.verify(pair.access_token)
            targets, since = there._checker._targets(token)
            assert await there._backend.refuses(targets, since) is refused


@pytest.mark.parametrize("turn", range(5))
async def test_of_two_at_once_each_ends_the_other(fleet: list[Engine], turn: int) -> None:
    """Two people who share an account would each keep the other one signed in."""
    here, there, third = fleet
    one, two = here.issue("alice"), here.issue("alice")
    calls = [
        here.revoke_subject("alice", keep=one.session_id),
        there.revoke_subject("alice", keep=two.session_id),
    ]
    await asyncio.gather(*calls[:: 1 if turn % 2 else -1])
    for engine in fleet:
        await until_quiet(engine)
    for engine in (here, there, third):
        accepted = [await is_accepted(engine, each) for each in (one, two)]
        assert accepted == [False, False]


async def test_the_same_session_may_ask_again(fleet: list[Engine]) -> None:
    """The second password change would sign its own user out."""
    here, there, third = fleet
    mine, old = here.issue("alice"), here.issue("alice")
    await here.revoke_subject("alice", keep=mine.session_id)
    new = there.issue("alice")
    await there.revoke_subject("alice", keep=mine.session_id)
    await until_quiet(third)
    await until_quiet(here)
    for engine in (here, third):
        assert await is_accepted(engine, mine)
        assert not await is_accepted(engine, old)
        assert not await is_accepted(engine, new)


async def test_a_later_sign_out_everywhere_ends_it(fleet: list[Engine]) -> None:
    """Whoever has once changed a password could never be signed out again."""
    here, there, third = fleet
    mine = here.issue("alice")
    await here.revoke_subject("alice", keep=mine.session_id)
    await there.revoke_subject("alice")
    await until_quiet(third)
    await until_quiet(here)
    for engine in fleet:
        assert not await is_accepted(engine, mine)
    assert here.status().entries == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_other_revocations_end_it_as_ever(fleet: list[Engine], *, is_first: bool) -> None:
    """The session could not log out any more, or have been ended before."""
    here = fleet[0]
    mine = here.issue("alice")
    if is_first:
        await here.revoke_session(mine.session_id)
    await here.revoke_subject("alice", keep=mine.session_id)
    if not is_first:
        await here.revoke_session(mine.session_id)
    assert not await is_accepted(here, mine)


async def test_other_claims_keep_a_session_as_well(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """The administrator who signs out a tenant would be signed out of it."""
    settings = make_settings(redis_server.url, revocable_claims=["tenant"])
    async with Engine(settings) as here, Engine(settings) as there:
        mine, other = (here.issue(name, claims={"tenant": 7}) for name in ("root", "bob"))
        await there.revoke_claim("tenant", 7, keep=mine.session_id)
        await until_quiet(here)
        assert await is_accepted(here, mine)
        assert not await is_accepted(here, other)
        heard = here.feed()
        waiting = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0)
        await there.revoke_subject("root", keep=mine.session_id)
        assert (await waiting).kept == mine.session_id
        await heard.aclose()


async def test_an_open_connection_of_the_session_goes_on(engine: Engine) -> None:
    """The page on which the user has changed the password would be cut off."""
    mine = await engine.verify(engine.issue("alice").access_token)
    other = await engine.verify(engine.issue("alice").access_token)
    assert isinstance(mine, AccessToken)
    assert isinstance(other, AccessToken)

    async def stay(token: AccessToken) -> None:
        async with engine.guard(token):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(stay(other))
    async with engine.guard(mine):
        await asyncio.sleep(0)
        await engine.revoke_subject("alice", keep=mine.session_id)
        with pytest.raises(RevokedTokenError):
            await waiting


@pytest.mark.parametrize("keep", ["", "x" * 4097, 7, b"s"])
async def test_what_is_no_session_is_not_kept(engine: Engine, keep: Any) -> None:
    """A token without a session would be signed out with all others, and the user wonder why."""
    with pytest.raises(ValueError, match="keep"):
        await engine.revoke_subject("alice", keep=keep)
    assert engine.status().entries == 0


async def test_one_session_has_no_other_one_to_keep(engine: Engine) -> None:
    """Half of what was asked for would be done."""
    for claim in ("jti", "sid"):
        with pytest.raises(ValueError, match="one session"):
            await engine.revoke_claim(claim, "a", keep="s")


async def test_a_dry_run_does_not_count_it(engine: Engine) -> None:
    """An operator would be told that one more is signed out."""
    pairs = [engine.issue("alice") for _ in range(3)]
    for pair in pairs:
        assert await is_accepted(engine, pair)
    receipt = await engine.revoke_subject("alice", keep=pairs[0].session_id, dry_run=True)
    assert receipt.sessions == 2
