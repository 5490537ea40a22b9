"""Revocation by more than the token, on two instances with a real server between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from revokebus import AccessToken, OutsideIssuer, RefreshToken
from revokebus.clock import SystemClock
from revokebus.engine.engine import Engine
from revokebus.errors import InvalidTokenError, RevokedTokenError, StaleError, UnsettledError
from tests.support import SECRET, end_ticks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

    from revokebus.testing import ManualClock, RedisServer
    from revokebus.tokens.claims import Token
    from tests.support import Eventually, MakeSettings

ODD_VALUES = [
    "alice",
    "auth0|x",
    "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "\U0001f600 \u00e9",
    'a",1,2]]',
    "a b\nc",
    "{revokebus}:*",
    "x" * 4096,
    "\u4e16" * 1365,
    0,
    42,
    -1.5,
    10**40,
    True,
    False,
    "1",
    "true",
]


async def verified(engine: Engine, encoded: str) -> AccessToken:
    return await engine.authenticate(encoded, AccessToken)


def knows(engine: Engine, token: Token) -> bool:
    return engine._checker.is_known_revoked(token)  # type: ignore[arg-type]  # of one of the types


@pytest.fixture
def until_known(eventually: Eventually) -> Callable[[Engine, Token], Awaitable[None]]:
    return lambda engine, token: eventually(lambda: knows(engine, token))


@pytest.fixture
def tenants(make_settings: MakeSettings, redis_server: RedisServer) -> Any:
    names = ["tenant", "groups"]
    return make_settings(redis_server.url, revocable_claims=names, on_stale="ask_redis")


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: ascii(value)[:20])
async def test_any_value_of_a_claim_is_revoked_everywhere(
    tenants: Any, eventually: Eventually, client: redis.Redis, value: Any
) -> None:
    """A tenant with an unusual name, or a number for one, could not be signed out."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        claims = {"tenant": value}
        mine = await verified(here, here.issue("a", claims=claims).access_token)
        listed = await verified(here, here.issue("a", claims={"groups": ["z", value]}).access_token)
        others = [
            await verified(here, here.issue("a", claims={"tenant": other}).access_token)
            for other in ODD_VALUES
            if other is not value
        ]
        await here.revoke_claim("tenant", value)
        await here.revoke_claim("groups", value)
        await eventually(lambda: knows(there, mine) and knows(there, listed))
        for engine in (here, there):
            assert not any(knows(engine, other) for other in others)
        async with Engine(tenants) as cold:  # from the records
            assert knows(cold, mine)
            assert knows(cold, listed)
            assert not any(knows(cold, other) for other in others)
        client.flushall()
        await eventually(lambda: len(client.keys("{revokebus}:r:*")) == 2)  # repaired


async def test_signing_in_again_works_at_once_everywhere(
    make_settings: MakeSettings,
    redis_server: RedisServer,
    eventually: Eventually,
    until_known: Callable[[Engine, Token], Awaitable[None]],
) -> None:
    """A user who was signed out everywhere could not come back within the second (wazuh 35043)."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        await eventually(lambda: there.status().subscribed)
        for _ in range(20):
            old = await verified(here, here.issue("alice").access_token)
            await here.revoke_subject("alice")
            new = await verified(here, here.issue("alice").access_token)
            await until_known(there, old)
            again = await verified(there, there.issue("alice").access_token)
            for engine in (here, there):
                assert knows(engine, old)
                assert not knows(engine, new)
                assert not knows(engine, again)


class OffClock(SystemClock):
    """A machine whose wall clock is off."""

    def __init__(self, seconds: float) -> None:
        self.wall = lambda: time.time() + seconds


async def test_a_token_is_revoked_where_the_clock_is_far_ahead(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """The log-out would be answered with a receipt of nothing, and the token go on elsewhere."""
    settings = make_settings(redis_server.url)
    async with (
        Engine(settings, clock=OffClock(7200)) as ahead,
        Engine(settings) as other,
    ):
        pair = other.issue("alice")
        receipt = await ahead.revoke(pair.access_token)
        assert receipt.revocations == 1
        await eventually(lambda: other.is_revoked(jwt_claims(pair.access_token)))


def jwt_claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@pytest.mark.parametrize("skew", [-29.0, -5.0, -0.5, -0.02, 0.0, 0.02, 0.5, 5.0, 29.0])
async def test_clocks_may_differ_by_the_leeway(
    make_settings: MakeSettings,
    redis_server: RedisServer,
    eventually: Eventually,
    until_known: Callable[[Engine, Token], Awaitable[None]],
    skew: float,
) -> None:
    """A token of an instance whose clock is ahead would be issued after its own revocation."""
    settings = make_settings(redis_server.url, leeway=30)
    async with (
        Engine(settings) as here,
        Engine(settings, clock=OffClock(skew)) as there,
    ):
        await eventually(lambda: there.status().subscribed and here.status().subscribed)
        for first, second in ((here, there), (there, here)):
            for _ in range(3):
                old = await verified(second, second.issue("alice").access_token)
                await verified(first, second.issue("alice").access_token)  # not "not yet valid"
                await first.revoke_subject("alice")
                await until_known(second, old)
                for engine in (here, there):
                    new = await verified(engine, engine.issue("alice").access_token)
                    assert not knows(here, new)
                    assert not knows(there, new)


async def test_a_sign_in_is_not_put_off_by_a_sign_out(
    make_settings: MakeSettings, redis_server: RedisServer
) -> None:
    """Who signs in where the sign-out is not yet known would be refused for half a minute."""
    async with Engine(make_settings(redis_server.url, leeway=30)) as engine:
        await engine.revoke_subject("alice")
        await engine.revoke_subject("alice")
        began = time.time()
        token = await verified(engine, engine.issue("alice").access_token)
        assert token.auth_time is not None
        assert token.auth_time - began < 1


async def test_a_foreign_token_with_a_whole_second_counts_as_before(
    make_settings: MakeSettings,
) -> None:
    """A token of the same second would escape, because its issuer writes no fractions."""
    async with Engine(make_settings()) as engine:
        now = int(time.time())
        claims = {"sub": "alice", "sid": "s", "type": "access", "iat": now, "exp": now + 600}
        tokens = {
            shift: await verified(
                engine, jwt.encode({**claims, "jti": str(shift), "iat": now + shift}, SECRET)
            )
            for shift in (-3, -2, -1)
        }
        await engine.revoke_subject("alice", now - 2 + 0.25)
        assert [knows(engine, tokens[shift]) for shift in (-3, -2, -1)] == [True, True, False]


async def test_the_latest_of_several_cut_offs_wins_everywhere(
    make_settings: MakeSettings, redis_server: RedisServer, client: redis.Redis
) -> None:
    """A cut-off far in the past, made later, would let everybody in again."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        token = await verified(here, here.issue("alice").access_token)
        await here.revoke_subject("alice")
        await there.revoke_subject("alice", time.time() - 3600)
        await here.revoke_subject("alice", time.time() - 7200)
        async with Engine(settings) as cold:
            for engine in (here, there, cold):
                assert knows(engine, token)
        (record,) = client.keys("{revokebus}:r:sub:*")
        assert client.ttl(record) > settings.refresh_ttl - 60


@pytest.mark.parametrize("by", ["session", "subject", "tenant", "everything"])
async def test_a_session_from_before_does_not_outlive_its_end_by_rotation(
    tenants: Any, eventually: Eventually, by: str
) -> None:
    """Whoever refreshes at the moment of a sign-out would keep his session."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        pair = here.issue("alice", claims={"tenant": 7})
        for _ in range(5):
            refresh = await there.authenticate(pair.refresh_token, RefreshToken)
            pair = await there.rotate(refresh)
        access = await verified(there, pair.access_token)
        ends: dict[str, Any] = {
            "session": lambda: here.revoke_session(pair.session_id),
            "subject": lambda: here.revoke_subject("alice", access.auth_time),
            "tenant": lambda: here.revoke_claim("tenant", 7),
            "everything": here.revoke_all,
        }
        rotating = asyncio.create_task(
            there.rotate(await there.authenticate(pair.refresh_token, RefreshToken))
        )
        if by == "subject":
            await here.revoke_subject("alice")
        await ends[by]()
        with contextlib.suppress(RevokedTokenError):
            pair = await rotating
        await eventually(lambda: knows(there, access))
        for encoded, kind in ((pair.access_token, AccessToken), (pair.refresh_token, RefreshToken)):
            for engine in (here, there):
                with pytest.raises(RevokedTokenError):
                    await engine.authenticate(encoded, kind)


async def test_a_revocation_that_only_redis_knows_stops_a_rotation(
    tenants: Any, client: redis.Redis
) -> None:
    """An instance that has not heard of a sign-out yet would renew the session."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        pair = there.issue("alice", claims={"tenant": 7})
        refresh = await there.authenticate(pair.refresh_token, RefreshToken)
        there._denylist.add = lambda *_args, **_options: False  # type: ignore[method-assign]  # deaf
        await here.revoke_claim("tenant", 7)
        with pytest.raises(RevokedTokenError):
            await there.rotate(refresh)
        assert client.keys("{revokebus}:r:revokebus*") == []


@pytest.mark.parametrize("by", ["sid", "sub", "tenant", "groups", "everything"])
async def test_redis_is_asked_under_everything_that_a_token_is_revoked_by(
    tenants: Any, by: str
) -> None:
    """`ask_redis` would accept a token of a user who was signed out everywhere."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        claims = {"tenant": 7, "groups": ["a", "b"]}
        pair, other = there.issue("alice", claims=claims), there.issue("bob")
        there._denylist.add = lambda *_args, **_options: False  # type: ignore[method-assign]  # deaf
        await end_ticks(there)
        there._freshness.forget()  # and knows it
        await verified(there, pair.access_token)
        ends: dict[str, Any] = {
            "sid": lambda: here.revoke_session(pair.session_id),
            "sub": lambda: here.revoke_subject("alice"),
            "tenant": lambda: here.revoke_claim("tenant", 7),
            "groups": lambda: here.revoke_claim("groups", "b"),
            "everything": here.revoke_all,
        }
        await ends[by]()
        with pytest.raises(RevokedTokenError):
            await verified(there, pair.access_token)
        if by != "everything":
            await verified(there, other.access_token)
        await verified(there, here.issue("alice", claims={"tenant": 8}).access_token)
        fewer = tenants.model_copy(update={"revocable_claims": ["tenant"]})
        async with Engine(fewer) as before:
            many = before.issue("carol", claims={"groups": list(range(1500))})
        with pytest.raises(StaleError, match="too long"):
            await verified(there, many.access_token)


async def test_a_dry_run_tells_and_touches_nothing(
    tenants: Any, eventually: Eventually, client: redis.Redis
) -> None:
    """An operator would have to sign everybody out to learn whom it would have been."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        await eventually(lambda: here.status().subscribed and there.status().subscribed)
        for number in range(5):
            pair = here.issue("alice", claims={"tenant": number % 2})
            await verified(here, pair.access_token)
            await here.authenticate(pair.refresh_token, RefreshToken)
        ended = here.issue("alice")
        await verified(here, ended.access_token)
        await here.revoke_session(ended.session_id)
        await verified(here, here.issue("bob").access_token)
        before = sorted(client.keys())
        for call, sessions in (
            (here.revoke_subject("alice", dry_run=True), 5),
            (here.revoke_claim("tenant", 0, dry_run=True), 3),
            (here.revoke_session(ended.session_id, dry_run=True), 0),
            (here.revoke_all(dry_run=True), 6),
            (here.revoke_all(time.time() - 60, dry_run=True), 0),
            (there.revoke_all(dry_run=True), 0),  # it has seen nobody
        ):
            receipt = await call
            assert (receipt.sessions, receipt.instances) == (sessions, 2)
            assert (receipt.revocations, receipt.position) == (0, None)
        assert sorted(client.keys()) == before
        client.acl_setuser("default", commands=["-hscan"])
        assert (await here.revoke_all(dry_run=True)).instances is None


async def test_many_are_revoked_at_once(
    make_settings: MakeSettings, redis_server: RedisServer, eventually: Eventually
) -> None:
    """Signing out a thousand stolen tokens would take a thousand requests."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        pairs = [here.issue(str(number)) for number in range(1200)]
        tokens = [await verified(here, pair.access_token) for pair in pairs[:600]]
        receipt = await here.revoke_many([*tokens, *(pair.access_token for pair in pairs[600:])])
        assert receipt.revocations == 1200
        await eventually(lambda: there.status().entries == 1200)


async def test_wrong_arguments_are_named(tenants: Any) -> None:
    """A mistake would be reported as done, and nobody be signed out."""
    async with Engine(tenants) as engine:
        wrong: Any = engine.revoke_claim  # what it is given is
        for call, word in (
            (lambda: engine.revoke_claim("team", 1), "REVOKEBUS_REVOCABLE_CLAIMS"),
            (lambda: engine.revoke_claim("tenant", ""), "1 to 4096"),
            (lambda: engine.revoke_claim("tenant", "a\0"), "1 to 4096"),
            (lambda: engine.revoke_claim("tenant", "\ud800"), "1 to 4096"),
            (lambda: wrong("tenant", [1]), "a text, a number"),
            (lambda: wrong("tenant", None), "a text, a number"),
            (lambda: engine.revoke_claim("tenant", float("nan")), "a text, a number"),
            (lambda: engine.revoke_subject("a", time.time() + 60), "future"),
            (lambda: engine.revoke_subject("a", -1), "1970"),
            (lambda: engine.revoke_subject("a", float("nan")), "1970"),
            (lambda: engine.revoke_subject("a", issuer="https://who"), "REVOKEBUS_ISSUERS"),
            (lambda: engine.revoke_subject("", dry_run=True), "1 to 4096"),
        ):
            with pytest.raises(ValueError, match=word):
                await call()
        with pytest.raises(TypeError):
            await engine.revoke_subject("a", "yesterday")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError):
            await engine.revoke_many("one.encoded.token")
        assert engine.status().entries == 0


async def test_a_cut_off_that_refuses_nobody_is_no_proof_of_the_rest(
    tenants: Any, client: redis.Redis
) -> None:
    """One old sign-out of a user would make `ask_redis` believe a Redis that has lost the new."""
    async with Engine(tenants) as here, Engine(tenants) as there:
        await here.revoke_subject("alice", time.time() - 1000)
        tokens = [there.issue(name).access_token for name in ("alice", "bob")]
        await end_ticks(there)
        there._freshness.forget()  # and knows it
        for token in tokens:
            await verified(there, token)
        client.set("{revokebus}:repair", "x", px=5000)
        for token in tokens:
            with pytest.raises(StaleError):
                await verified(there, token)
        client.delete("{revokebus}:repair")
        client.hset("{revokebus}:meta", "epoch", "0" * 32)
        for token in tokens:
            with pytest.raises(StaleError):
                await verified(there, token)


async def test_two_spellings_of_a_number_are_one_record(tenants: Any, client: redis.Redis) -> None:
    """An earlier cut-off for 1.0 would take the place of the one for 1."""
    async with Engine(tenants) as here:
        token = await verified(here, here.issue("a", claims={"tenant": 1}).access_token)
        await here.revoke_claim("tenant", 1)
        await here.revoke_claim("tenant", 1.0, time.time() - 1000)
        await here.revoke_claim("tenant", -0.0)
        assert len(client.keys("{revokebus}:r:*")) == 2
        async with Engine(tenants) as cold:
            assert knows(cold, token)


@pytest.mark.parametrize("leeway", [0, 5])
async def test_every_sign_out_counts_whichever_came_before(
    make_settings: MakeSettings,
    redis_server: RedisServer,
    until_known: Callable[[Engine, Token], Awaitable[None]],
    leeway: float,
) -> None:
    """A sign-in that was put after one sign-out would be after the next one, too."""
    settings = make_settings(redis_server.url, leeway=leeway, revocable_claims=["tenant"])
    async with Engine(settings, clock=OffClock(0.6 * leeway)) as a, Engine(settings) as b:
        for first, second in ((a, b), (b, a), (a, a)):
            for end in (
                lambda one: one.revoke_subject("alice"),
                lambda one: one.revoke_all(),
                lambda one: one.revoke_claim("tenant", 7),
            ):
                old = await verified(second, second.issue("alice").access_token)
                await first.revoke_subject("alice")
                await until_known(second, old)
                token = second.issue("alice", claims={"tenant": 7}).access_token
                mine = await verified(second, token)
                await end(second)  # type: ignore[no-untyped-call]  # a lambda
                await until_known(first, mine)
                await until_known(second, mine)
                pair = first.issue("alice", claims={"tenant": 7})
                await verified(first, pair.access_token)
                renewed = await first.rotate(
                    await first.authenticate(pair.refresh_token, RefreshToken)
                )
                await verified(first, renewed.access_token)


async def test_iat_is_the_time_also_after_a_sign_out(make_settings: MakeSettings) -> None:
    """Other services would take a token for one of the future, and clients for one that lasts."""
    async with Engine(make_settings(leeway=60)) as engine:
        await engine.revoke_subject("alice")
        token = await verified(engine, engine.issue("alice").access_token)
        assert abs(token.issued_at - time.time()) < 10
        assert token.expires_at - token.issued_at <= engine.settings.access_ttl + 1
        assert token.auth_time is not None
        assert abs(token.auth_time - token.issued_at) < 1


async def test_a_session_is_remembered_for_as_long_as_a_token_can_live(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """In its last minutes a token of an ended session would work again."""
    settings = make_settings(leeway=60, access_ttl=900, refresh_ttl=900)
    async with Engine(settings, clock=clock) as engine:
        now = int(clock.wall())
        claims = {"sub": "a", "sid": "s", "type": "access", "jti": "j", "iat": now + 60}
        with pytest.raises(InvalidTokenError):
            await verified(engine, jwt.encode({**claims, "exp": now + 60 + 902}, SECRET))
        longest = jwt.encode({**claims, "exp": now + 60 + 901}, SECRET)
        token = await verified(engine, longest)
        await engine.revoke_session("s")
        clock.advance(token.expires_at + 60 - clock.wall() - 0.01)
        with pytest.raises(RevokedTokenError):
            await verified(engine, longest)
        assert engine.status().entries == 1


async def test_nothing_is_exchanged_while_redis_may_have_lost_that_it_was(
    make_settings: MakeSettings, redis_server: RedisServer, client: redis.Redis
) -> None:
    """After a failover a used refresh token would buy a second session."""
    async with Engine(make_settings(redis_server.url)) as engine:
        pair = engine.issue("alice")
        refresh = await engine.authenticate(pair.refresh_token, RefreshToken)
        for key in ("hold", "repair"):
            client.set(f"{{revokebus}}:{key}", "x", px=5000)
            with pytest.raises(UnsettledError):
                await engine.rotate(refresh)
            client.delete(f"{{revokebus}}:{key}")
        assert (await engine.rotate(refresh)).session_id == pair.session_id


async def test_an_odd_message_stops_no_repair(
    make_settings: MakeSettings,
    redis_server: RedisServer,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A stranger who may publish could keep the fleet from writing back what Redis has lost."""
    async with Engine(make_settings(redis_server.url)) as engine:
        await engine.revoke_session("s")
        epoch = client.hget("{revokebus}:meta", "epoch").decode()  # type: ignore[union-attr]  # text
        odd = f'RB {epoch} 0-0 0-0 2 [["\\ud800","\\ud800","\\ud800",{time.time() + 600},null]]'
        await eventually(lambda: engine.status().subscribed)
        client.publish("{revokebus}:ch", odd)
        await eventually(lambda: engine.status().entries == 2)
        client.flushall()
        await eventually(lambda: len(client.keys("{revokebus}:r:*")) == 2)


async def test_an_outside_issuer_s_users_can_sign_in_again_in_spite_of_a_leeway(
    make_settings: MakeSettings,
) -> None:
    """For as long as the leeway, whoever signs in at the issuer would be refused."""
    outside = OutsideIssuer(issuer="https://idp", jwks_url="https://idp/jwks", audience="a")
    engine = Engine(make_settings(leeway=60, issuers=[outside]))
    cut_off = engine._revoker.of_claim("sub", "a", None, "https://idp").issued_before
    assert cut_off is not None
    assert cut_off < time.time() + 1
    claims = {"sub": "a", "iss": "https://idp", "iat": int(time.time()) + 2, "auth_time": 1}
    engine._denylist.add(engine._revoker.of_claim("sub", "a", None, "https://idp"))
    assert not engine.is_revoked(claims)
    assert engine.is_revoked({**claims, "iat": 5})


async def test_a_record_outlives_its_token_for_a_slow_clock(
    make_settings: MakeSettings, redis_server: RedisServer
) -> None:
    """An instance that starts late, and whose clock is behind, would accept a revoked token."""
    settings = make_settings(redis_server.url, leeway=3, access_ttl=1, refresh_ttl=2)
    async with Engine(settings) as engine:
        pair = engine.issue("alice")
        token = await verified(engine, pair.access_token)
        await engine.revoke(token)
        refresh = await engine.authenticate(pair.refresh_token, RefreshToken)
        await engine.rotate(refresh)
        with redis_server.client() as client:
            records = {f"r:jti:{token.jti}": token, f"s:{refresh.session_id}": refresh}
            for key, kept in records.items():
                life = client.ttl(f"{{revokebus}}:{key}")
                assert time.time() + life >= kept.expires_at + 2 * settings.leeway - 1
