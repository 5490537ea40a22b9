"""The list on which a user sees where he is signed in."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, RefreshToken, UserSession
from revokebus.engine.engine import Engine
from revokebus.errors import StoreError
from revokebus.protocol.sign_in import LONGEST_DEVICE, MOST_LISTED, SignIn, encode_sign_in
from tests.support import until_quiet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

    from revokebus.testing import ManualClock, RedisServer
    from revokebus.tokens.issuer import TokenPair
    from tests.support import MakeSettings

LIST = "{revokebus}:u:alice"


@pytest.fixture(params=["redis", "memory"])
async def bus(
    request: pytest.FixtureRequest, redis_server: RedisServer, make_settings: MakeSettings
) -> AsyncIterator[Engine]:
    url = redis_server.url if request.param == "redis" else "memory://"
    async with Engine(make_settings(url)) as engine:
        yield engine


async def refreshed(engine: Engine, pair: TokenPair, **options: Any) -> TokenPair:
    token = await engine.authenticate(pair.refresh_token, RefreshToken)
    return await engine.rotate(token, **options)


def names(sessions: list[UserSession]) -> list[str]:
    return [each.device for each in sessions]


async def test_a_user_sees_where_he_is_signed_in(bus: Engine) -> None:
    """Nobody could tell a thief's session from his own, and end it."""
    before = time.time()
    phone = await bus.sign_in("alice", device="phone", scopes=["read"], claims={"tenant": 7})
    laptop = await bus.sign_in("alice", device="laptop")
    await bus.sign_in("bob", device="watch")
    bus.issue("alice")  # on no list: there is none without asking for it
    sessions = await bus.sessions("alice")
    assert names(sessions) == ["laptop", "phone"]
    assert [each.session_id for each in sessions] == [laptop.session_id, phone.session_id]
    assert all(each.refreshed_at is None for each in sessions)
    assert all(before - 1 < each.signed_in_at < time.time() + 1 for each in sessions)
    assert all(
        each.expires_at == pytest.approx(time.time() + laptop.refresh_expires_in, abs=2)
        for each in sessions
    )
    token = await bus.authenticate(phone.access_token, AccessToken)
    assert (token.scopes, token.claims["tenant"]) == (frozenset({"read"}), 7)
    assert "phone" not in str(token.verified_claims)  # only the refresh token has it


async def test_a_refresh_is_seen(bus: Engine) -> None:
    """A session that is in use would look like one that was left behind."""
    phone = await bus.sign_in("alice", device="phone")
    await bus.sign_in("alice", device="laptop")
    began = time.time()
    phone = await refreshed(bus, phone)
    first, second = await bus.sessions("alice")
    assert (first.device, second.device) == ("phone", "laptop")
    assert first.refreshed_at is not None
    assert began - 0.1 <= first.refreshed_at <= time.time()
    assert first.signed_in_at < second.signed_in_at
    await refreshed(bus, phone)
    again = (await bus.sessions("alice"))[0]
    assert again.refreshed_at is not None
    assert again.refreshed_at >= first.refreshed_at
    assert len(await bus.sessions("alice")) == 2


@pytest.mark.parametrize("way", ["session", "subject", "all"])
async def test_what_has_ended_is_gone_at_once(bus: Engine, way: str) -> None:
    """The page would show the device that its user has just signed out."""
    phone = await bus.sign_in("alice", device="phone")
    laptop = await bus.sign_in("alice", device="laptop")
    if way == "session":
        await bus.revoke_session(phone.session_id)
    elif way == "subject":
        await bus.revoke_subject("alice", keep=laptop.session_id)
    else:
        await bus.revoke_all()
        laptop = await bus.sign_in("alice", device="laptop")
    assert [each.session_id for each in await bus.sessions("alice")] == [laptop.session_id]


async def test_what_has_expired_is_gone(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """Lists would grow for ever, and so would Redis."""
    async with Engine(make_settings(redis_server.url)) as engine:
        await engine.sign_in("alice", device="soon", refresh_ttl=1, access_ttl=1)
        assert 0 < client.pttl(LIST) <= 2000
        await engine.sign_in("alice", device="later", refresh_ttl=1000)
        assert client.pttl(LIST) > 900_000
        gone = SignIn("old", 1.0, 0.0, time.time() - 1, "old")
        client.hset(LIST, "old", encode_sign_in(gone))
        assert "old" not in names(await engine.sessions("alice"))
        assert not client.hexists(LIST, "old")
        await engine.sign_in("alice", device="short", refresh_ttl=10)
        assert client.pttl(LIST) > 900_000


async def test_a_list_has_an_end(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A program that signs in each minute would fill Redis with one user's list."""
    async with Engine(make_settings(redis_server.url)) as engine:
        used = await engine.sign_in("alice", device="used")
        idle = await engine.sign_in("alice", device="idle")
        ended = [await engine.sign_in("alice", device=f"out {n}") for n in range(MOST_LISTED - 2)]
        for each in ended[1:]:
            await engine.revoke_session(each.session_id)
        await engine.sign_in("alice", device="one more")  # whoever has logged out goes
        assert names(await engine.sessions("alice")) == ["one more", "out 0", "idle", "used"]
        assert client.hlen(LIST) == 4
        used = await refreshed(engine, used)
        for number in range(MOST_LISTED):
            await engine.sign_in("alice", device=f"robot {number}")
        found = names(await engine.sessions("alice"))
        assert len(found) == client.hlen(LIST) == MOST_LISTED
        assert "idle" not in found
        assert idle.session_id not in [each.session_id for each in await engine.sessions("alice")]
        await refreshed(engine, idle)  # which is on the list again, once it is used
        assert "idle" in names(await engine.sessions("alice"))
        assert client.hlen(LIST) == MOST_LISTED
        planted: Any = {f"x{n}": '1.0 0.0 9999999999.0 "x"' for n in range(5000)}
        client.hset(LIST, mapping=planted)  # no script walks over so many
        await engine.sign_in("alice", device="after")
        assert client.hlen(LIST) <= 1


async def test_what_is_no_entry_breaks_nothing(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """One line that was written by hand would make a user's page a 503 for good."""
    async with Engine(make_settings(redis_server.url)) as engine:
        await engine.sign_in("alice", device="phone")
        for number, wrong in enumerate(
            ['1.1 1.1 1.2.3 "x"', "x", '1.0 0.0 9e9 "x"', '1.0 0.0 9999999999.0 "\\ud800"']
        ):
            client.hset(LIST, f"odd{number}", wrong)
        assert names(await engine.sessions("alice")) == ["phone"]
        await engine.sign_in("alice", device="laptop")
        client.delete(LIST)
        client.set(LIST, "of another type")
        assert await engine.sessions("alice") == []


async def test_a_user_of_another_issuer_has_no_list(bus: Engine) -> None:
    """Their "alice" would see the devices of ours, and end them."""
    await bus.sign_in("alice", device="phone")
    assert await bus.sessions("alice", issuer="https://idp.example") == []
    assert names(await bus.sessions("alice", issuer="")) == ["phone"]


async def test_in_memory_what_has_ended_goes_first_as_well(make_settings: MakeSettings) -> None:
    """A suite would see another list than users do."""
    async with Engine(make_settings()) as engine:
        await engine.sign_in("alice", device="idle")
        for number in range(MOST_LISTED):
            pair = await engine.sign_in("alice", device=str(number))
            await engine.revoke_session(pair.session_id)
        await engine.sign_in("alice", device="one more")
        assert names(await engine.sessions("alice")) == ["one more", "idle"]


async def test_a_list_that_redis_has_lost_comes_back(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
) -> None:
    """After a move to another Redis nobody would see where he is signed in, for a month."""
    async with Engine(make_settings(redis_server.url)) as engine:
        phone = await engine.sign_in("alice", device="phone")
        client.delete(LIST)
        assert await engine.sessions("alice") == []
        phone = await refreshed(engine, phone)
        (session,) = await engine.sessions("alice")
        assert (session.device, session.session_id) == ("phone", phone.session_id)
        client.delete(LIST)
        client.set(LIST, "of another type")
        phone = await refreshed(engine, phone)
        assert names(await engine.sessions("alice")) == ["phone"]


async def test_without_redis_a_user_signs_in_all_the_same(
    redis_server: RedisServer, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """The list would make Redis a condition of every sign-in."""
    settings = make_settings(redis_server.url, redis_timeout=0.3, rotation_grace=30)
    async with Engine(settings) as engine:
        redis_server.freeze()
        with caplog.at_level(logging.WARNING, "revokebus"):
            phone = await engine.sign_in("alice", device="phone")
        assert "not listed" in caplog.text
        assert "alice" not in caplog.text
        with pytest.raises(StoreError):
            await engine.sessions("alice")
        redis_server.thaw()
        await until_quiet(engine)
        await refreshed(engine, phone)
        assert names(await engine.sessions("alice")) == ["phone"]


async def test_every_instance_tells_the_same(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A user would see another list with each reload of the page."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        phone = await here.sign_in("alice", device="phone")
        await refreshed(there, phone)
        assert await here.sessions("alice") == await there.sessions("alice")
        await there.revoke_session(phone.session_id, confirm="fleet")
        assert await here.sessions("alice") == []


async def test_many_at_once_are_all_listed(bus: Engine) -> None:
    """Of two devices that sign in at the same moment one would stay unseen."""
    await asyncio.gather(*(bus.sign_in("alice", device=str(n)) for n in range(50)))
    assert sorted(names(await bus.sessions("alice")), key=int) == [str(n) for n in range(50)]


async def test_a_thousand_users_sign_in_at_once(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """On the morning after a sign-out of everyone the list would delay every sign-in."""
    async with Engine(make_settings(redis_server.url, redis_timeout=5.0)) as engine:
        users = [f"user-{number}" for number in range(1000)]
        pairs = await asyncio.gather(*(engine.sign_in(user, device="phone") for user in users))
        for user, pair in zip(users[::100], pairs[::100], strict=True):
            (session,) = await engine.sessions(user)
            assert session.session_id == pair.session_id
        assert len(client.keys("{revokebus}:u:*")) == 1000
        assert engine.status().entries == 0  # no copy knows of it


@pytest.mark.parametrize("device", ["", '\ud800 \0 \n" \\', "Łódź 📱", "x" * 5000])
async def test_any_name_of_a_device(bus: Engine, device: str) -> None:
    """A browser with an odd name of its own could not sign in."""
    pair = await bus.sign_in("alice", device=device)
    await refreshed(bus, pair)
    (session,) = await bus.sessions("alice")
    assert session.device == "".join(filter(str.isprintable, device))[:LONGEST_DEVICE]


async def test_lists_of_odd_subjects_are_apart(bus: Engine) -> None:
    """One user would see the devices of another one."""
    subjects = ["alice", "alice:", "a:alice", "{revokebus}", "@x:alice", "Alice", "x" * 4096]
    for subject in subjects:
        await bus.sign_in(subject, device=subject[:9])
    for subject in subjects:
        assert names(await bus.sessions(subject)) == [subject[:9]]
    for wrong in ("", "x" * 4097, 7):
        with pytest.raises(ValueError, match="subject"):
            await bus.sessions(wrong)  # type: ignore[arg-type]  # on purpose


async def test_the_end_of_a_session_is_on_the_list(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A session would be listed beyond its end, or hidden before it."""
    settings = make_settings(session_ttl=100, refresh_ttl=60, access_ttl=10)
    async with Engine(settings, clock=clock) as engine:
        pair = await engine.sign_in("alice", device="phone")
        assert (await engine.sessions("alice"))[0].expires_at == pytest.approx(clock.wall() + 60)
        clock.advance(50)
        pair = await refreshed(engine, pair)
        assert (await engine.sessions("alice"))[0].expires_at == pytest.approx(clock.wall() + 50)
        clock.advance(51)
        assert await engine.sessions("alice") == []
