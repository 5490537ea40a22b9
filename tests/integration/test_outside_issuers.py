"""Tokens of others: fetched keys, other names, several issuers, strictness."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from revokebus import AccessToken, OutsideIssuer, RefreshToken, Settings
from revokebus.engine.engine import Engine
from revokebus.errors import InvalidTokenError, KeysUnavailableError, RevokedTokenError
from revokebus.keys.key_set import published_keys
from revokebus.keys.remote_key_set import COOLDOWN_SECONDS, LIFETIME_SECONDS
from revokebus.testing import ManualClock, RedisServer
from revokebus.testing.outside_issuer import StandInIssuer
from tests.support import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Eventually, MakeSettings


@pytest.fixture
def idp() -> Iterator[StandInIssuer]:
    with StandInIssuer() as issuer:
        yield issuer


def outside(idp: StandInIssuer, **changes: Any) -> OutsideIssuer:
    return OutsideIssuer(
        **{"issuer": idp.issuer, "jwks_url": idp.jwks_url, "audience": "api", **changes}
    )


def resource_server(idp: StandInIssuer, **changes: Any) -> Settings:
    """Return the settings of a service that issues nothing itself."""
    # The issuer goes by the machine's clock, and the tests' clocks stand still.
    clocks = {"leeway": 60}
    whole = {"issuer": idp.issuer, "jwks_url": idp.jwks_url, "audience": "api", **clocks}
    return Settings(**{"redis_url": "memory://", **whole, **changes})


async def accepted(engine: Engine, token: str) -> AccessToken:
    return await engine.authenticate(token, AccessToken)


async def test_a_resource_server_needs_no_key_of_its_own(idp: StandInIssuer) -> None:
    """A service behind Auth0 or Keycloak could not use the library."""
    async with Engine(resource_server(idp)) as engine:
        token = await accepted(engine, idp.sign("auth0|alice", "api", scope="read write"))
        assert (token.subject, token.session_id, token.issuer) == ("auth0|alice", "", idp.issuer)
        assert token.scopes == {"read", "write"}
        await engine.revoke(token)
        with pytest.raises(RevokedTokenError):
            await accepted(engine, idp.sign("auth0|alice", "api", jti=token.jti))


SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "auth0": ({"scope": "read", "azp": "app", "aud": ["api", "https://x/userinfo"]}, {}),
    "keycloak": (
        {"typ": "Bearer", "sid": "s1", "scope": "read", "realm_access": {"roles": ["a"]}},
        {},
    ),
    "keycloak before 24": ({"typ": "Bearer", "session_state": "s1"}, {"sid": "session_state"}),
    "entra": (
        {"jti": None, "uti": "u1", "oid": "o1", "scp": "read", "ver": "2.0"},
        {"jti": "uti", "sub": "oid", "scope": "scp"},
    ),
    "cognito": (
        {"token_use": "access", "client_id": "c", "origin_jti": "o"},
        {"sid": "origin_jti"},
    ),
    "okta": ({"scp": ["read"], "cid": "c", "uid": "u"}, {"scope": "scp", "client_id": "cid"}),
    "without an id": ({"jti": None}, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_shape_of_each_issuer(idp: StandInIssuer, shape: str) -> None:
    """The tokens of a well-known issuer would be refused, or could not be revoked."""
    claims, names = SHAPES[shape]
    async with Engine(resource_server(idp, claim_names=names)) as engine:
        encoded = idp.sign("alice", **{"audience": "api", **_moved(claims)})
        token = await accepted(engine, encoded)
        assert token.jti
        if "read" in str(claims):
            assert token.scopes == {"read"}
        if "session_state" in claims or "sid" in claims:
            assert token.session_id == "s1"
            await engine.revoke_session("s1")
        else:
            await engine.revoke_subject("o1" if "oid" in claims else "alice")
        with pytest.raises(RevokedTokenError):
            await accepted(engine, encoded)


def _moved(claims: dict[str, Any]) -> dict[str, Any]:
    return {("audience" if name == "aud" else name): value for name, value in claims.items()}


@pytest.mark.parametrize(
    "claims",
    [
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": ["Bearer"]},
        {"token_use": "id"},
        {"type": "id"},
        {"sub": None},
        {"iat": None},
        {"exp": None},
        {"iss": "https://other"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": [["api"]]},
        {"aud": {"api": 1}},
        {"aud": None},
        {"exp": int(time.time()) + 365 * 86_400},
        {"sid": 5},
        {"jti": ""},
        {"scope": [1]},
    ],
)
async def test_what_is_no_access_token_for_here(idp: StandInIssuer, claims: dict[str, Any]) -> None:
    """An ID token, or one for another service, would open this one (RFC 8725 §2.8, §3.9)."""
    async with Engine(resource_server(idp)) as engine:
        await accepted(engine, idp.sign("alice", "api"))
        with pytest.raises(InvalidTokenError):
            await accepted(engine, idp.sign("alice", **{"audience": "api", **_moved(claims)}))


async def test_several_issuers_do_not_share_their_ids(
    idp: StandInIssuer, redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Whoever runs one issuer could sign out, or speak for, the users of another."""
    with StandInIssuer() as second:
        settings = make_settings(
            redis_server.url,
            issuer="https://here",
            audience="api",
            issuers=[outside(idp), outside(second)],
        )
        async with Engine(settings) as engine:
            one = await accepted(engine, idp.sign("alice", "api", jti="j", sid="s"))
            two = await accepted(engine, second.sign("alice", "api", jti="j", sid="s"))
            own = await accepted(engine, engine.issue("alice").access_token)
            assert len({one.issuer, two.issuer, own.issuer}) == 3
            forged = idp.sign("alice", "api", iss=second.issuer)
            with pytest.raises(InvalidTokenError):
                await accepted(engine, forged)
            await engine.revoke(one)
            await engine.revoke_session("s", issuer=second.issuer)
            await engine.revoke_subject("alice")
            known = [engine._checker.is_known_revoked(each) for each in (one, two, own)]
            assert known == [True, True, True]
            third = await accepted(engine, idp.sign("alice", "api"))
            await engine.revoke_subject("alice", issuer=second.issuer)
            assert not engine._checker.is_known_revoked(third)
            assert engine.is_revoked(one.claims)
            assert not engine.is_revoked(third.claims)
            async with Engine(settings) as cold:
                known = [cold._checker.is_known_revoked(each) for each in (one, two, own, third)]
                assert known == [True, True, True, False]


async def test_only_our_own_refresh_tokens_are_exchanged(idp: StandInIssuer) -> None:
    """A refresh token of another issuer would buy tokens of ours."""
    settings = Settings(redis_url="memory://", secret_key=SECRET, issuers=[outside(idp)])
    async with Engine(settings) as engine:
        encoded = idp.sign("alice", "api", type="refresh")
        token = await engine.authenticate(encoded, RefreshToken)
        with pytest.raises(InvalidTokenError, match="elsewhere"):
            await engine.rotate(token)
    async with Engine(resource_server(idp)) as engine:  # which makes no tokens at all
        token = await engine.authenticate(encoded, RefreshToken)
        with pytest.raises(InvalidTokenError, match="elsewhere"):
            await engine.rotate(token)


async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(idp: StandInIssuer) -> None:
    """After the issuer changes its key, everybody would be refused, or a leaked key stay good."""
    clock = ManualClock()
    async with Engine(resource_server(idp), clock=clock) as engine:
        old = idp.sign("alice", "api")
        await accepted(engine, old)
        idp.add_key("second")
        new = idp.sign("alice", "api", kid="second")
        with pytest.raises(InvalidTokenError):  # too soon after the last fetch
            await accepted(engine, new)
        clock.advance(COOLDOWN_SECONDS + 1)
        assert (await accepted(engine, new)).subject == "alice"
        await accepted(engine, old)
        idp.withdraw("first")
        (key_set,) = engine._verifier.remote_key_sets
        clock.advance(LIFETIME_SECONDS)
        await key_set.refresh()
        with pytest.raises(InvalidTokenError):  # and not remembered as verified either
            await accepted(engine, old)
        await accepted(engine, new)
        idp.document = {"keys": []}  # a mistake of the issuer's is no withdrawal
        clock.advance(LIFETIME_SECONDS)
        await key_set.refresh()
        await accepted(engine, new)


async def test_the_event_loop_runs_while_keys_are_fetched(
    idp: StandInIssuer, eventually: Eventually
) -> None:
    """A slow issuer would stop every request of the process."""
    clock = ManualClock()
    async with Engine(resource_server(idp), clock=clock) as engine:
        token = idp.sign("alice", "api")
        clock.advance(COOLDOWN_SECONDS + 1)
        idp.add_key("second")
        idp.may_answer.clear()
        waiting = [
            asyncio.create_task(accepted(engine, idp.sign("bob", "api", kid="second")))
            for _ in range(5)
        ]
        await eventually(lambda: idp.fetches == 2)
        for _ in range(20):
            assert (await accepted(engine, token)).subject == "alice"
        waiting[0].cancel()  # one that gives up does not end it for the others
        idp.may_answer.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] + [
            AccessToken
        ] * 4
        assert idp.fetches == 2


async def test_an_issuer_that_is_away_at_the_start(idp: StandInIssuer) -> None:
    """The application would not start, or tell its users that their tokens are bad."""
    clock = ManualClock()
    idp.status = 503
    async with Engine(resource_server(idp), clock=clock) as engine:
        with pytest.raises(KeysUnavailableError):
            await accepted(engine, idp.sign("alice", "api"))
        idp.status = 200
        clock.advance(COOLDOWN_SECONDS + 1)
        assert (await accepted(engine, idp.sign("alice", "api"))).subject == "alice"


async def test_a_start_does_not_wait_for_an_issuer_for_ever(idp: StandInIssuer) -> None:
    """A deployment would hang on somebody else's outage."""
    idp.may_answer.clear()
    settings = resource_server(idp, startup_timeout=0.05)
    async with Engine(settings) as engine:
        assert engine.status().state == "fresh"
        idp.may_answer.set()
        assert (await accepted(engine, idp.sign("alice", "api"))).subject == "alice"
    assert not [task for task in asyncio.all_tasks() if "jwks" in task.get_name()]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff", b'{"keys": 5}', b'{"keys": [5, null, {}]}']
)
async def test_a_document_that_is_none_leaves_the_keys_as_they_are(
    idp: StandInIssuer, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """An error page of the issuer would end in an exception, or with no keys."""
    clock = ManualClock()
    async with Engine(resource_server(idp), clock=clock) as engine:
        (key_set,) = engine._verifier.remote_key_sets
        real = json.dumps
        monkeypatch.setattr(
            "revokebus.testing.outside_issuer.json.dumps", lambda _: body.decode("latin-1")
        )
        clock.advance(LIFETIME_SECONDS)
        await key_set.refresh()
        monkeypatch.setattr("revokebus.testing.outside_issuer.json.dumps", real)
        assert idp.fetches == 2
        assert (await accepted(engine, idp.sign("alice", "api"))).subject == "alice"


async def test_rfc_9068_is_strict(idp: StandInIssuer) -> None:
    """An application that asks for access tokens would be content with any JWT."""
    async with Engine(resource_server(idp, rfc9068=True)) as engine:
        whole: dict[str, Any] = {"client_id": "c", "header_typ": "at+jwt"}
        assert (await accepted(engine, idp.sign("alice", "api", **whole))).subject == "alice"
        await accepted(engine, idp.sign("a", "api", client_id="c", header_typ="application/AT+JWT"))
        for wrong in ({"header_typ": "JWT"}, {"client_id": None}, {"jti": None}):
            with pytest.raises(InvalidTokenError):
                await accepted(engine, idp.sign("alice", "api", **{**whole, **wrong}))


async def test_our_own_tokens_can_be_those_of_rfc_9068() -> None:
    """A resource server that is strict would refuse what we issue."""
    settings = Settings(
        redis_url="memory://", secret_key=SECRET, issuer="me", audience="api", rfc9068=True
    )
    async with Engine(settings) as engine:
        with pytest.raises(ValueError, match="client_id"):
            engine.issue("alice")
        pair = engine.issue("alice", claims={"client_id": "web"})
        assert jwt.get_unverified_header(pair.access_token)["typ"] == "at+jwt"
        assert jwt.get_unverified_header(pair.refresh_token)["typ"] == "JWT"
        refresh = await engine.authenticate(pair.refresh_token, RefreshToken)
        for one in (pair, await engine.rotate(refresh)):
            assert (await accepted(engine, one.access_token)).subject == "alice"
        claims = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"], audience="api")
        with pytest.raises(InvalidTokenError):
            await accepted(engine, jwt.encode(claims, SECRET))


async def test_what_is_revoked_by_the_issuer_s_service_is_refused_by_the_others(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """The service that issues and those that verify would file a revocation under two names."""
    secret = secrets.token_urlsafe(64)
    both = {"issuer": "https://auth", "audience": "api"}
    auth = make_settings(redis_server.url, secret_key=secret, **both)
    async with Engine(auth) as here, Engine(auth) as there:
        token = await accepted(here, here.issue("alice").access_token)
        await here.revoke_subject("alice")
        await eventually(lambda: there._checker.is_known_revoked(token))


async def test_a_fetch_that_drips_ends(
    idp: StandInIssuer, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """One byte a second would keep a request, every later fetch and the process's end waiting."""
    clock = ManualClock()
    async with Engine(resource_server(idp), clock=clock) as engine:
        monkeypatch.setattr("revokebus.keys.remote_key_set.DEADLINE_SECONDS", 0.1)
        token = idp.sign("alice", "api")
        idp.may_answer.clear()
        clock.advance(COOLDOWN_SECONDS + 1)
        idp.add_key("second")
        new = idp.sign("alice", "api", kid="second")
        async with asyncio.timeout(5):
            with pytest.raises(InvalidTokenError):
                await accepted(engine, new)
        await accepted(engine, token)
        idp.may_answer.set()
        (key_set,) = engine._verifier.remote_key_sets
        monkeypatch.setattr("revokebus.keys.remote_key_set.DEADLINE_SECONDS", 5)
        await eventually(key_set._fetcher.ended.is_set)  # until then no other one is started
        clock.advance(COOLDOWN_SECONDS + 1)
        assert (await accepted(engine, new)).subject == "alice"


async def test_a_document_without_end_is_refused(
    idp: StandInIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer, or who speaks for it, could fill the memory."""
    monkeypatch.setattr("revokebus.keys.fetch.MAX_BYTES", 100)
    async with Engine(resource_server(idp)) as engine:
        with pytest.raises(KeysUnavailableError):
            await accepted(engine, idp.sign("alice", "api"))


async def test_keys_are_fetched_again_whatever_the_start_did(
    idp: StandInIssuer, eventually: Eventually
) -> None:
    """With a start that waits for nothing, a withdrawn key would stay good."""
    async with Engine(resource_server(idp, startup_timeout=0)) as engine:
        (key_set,) = engine._verifier.remote_key_sets
        await eventually(lambda: idp.fetches == 1)
        assert key_set._task is not None
        assert not key_set._task.done()


async def test_a_bus_that_is_closed_during_a_fetch_says_so(
    idp: StandInIssuer, eventually: Eventually
) -> None:
    """A waiting request would end as if its client had gone."""
    clock = ManualClock()
    engine = Engine(resource_server(idp), clock=clock)
    await engine.start()
    clock.advance(COOLDOWN_SECONDS + 1)
    idp.add_key("second")
    idp.may_answer.clear()
    waiting = asyncio.create_task(accepted(engine, idp.sign("a", "api", kid="second")))
    await eventually(lambda: idp.fetches == 2)
    await engine.close()
    idp.may_answer.set()
    with pytest.raises(InvalidTokenError):
        await waiting


async def test_a_sign_in_of_the_future_is_none(idp: StandInIssuer) -> None:
    """No cut-off would reach such a token, and no sign-in be too old."""
    async with Engine(resource_server(idp)) as engine:
        with pytest.raises(InvalidTokenError):
            await accepted(engine, idp.sign("a", "api", auth_time=int(time.time()) + 1000))
    async with Engine(Settings(redis_url="memory://", secret_key=SECRET)) as engine:
        now = time.time()
        claims = {"sub": "a", "jti": "j", "sid": "s", "type": "access", "iat": now}
        late = {**claims, "exp": int(now) + 60, "auth_time": now + 500}
        with pytest.raises(InvalidTokenError):
            await accepted(engine, jwt.encode(late, SECRET))


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "n", "at_hash": "x"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
        {"type": "access", "token_use": "id"},
        {"token_use": "access", "typ": "ID"},
        {"cnf": {"jkt": "x"}},
    ],
)
async def test_id_and_logout_tokens_are_no_access_tokens(
    idp: StandInIssuer, claims: dict[str, Any]
) -> None:
    """What a page was given to know its user would open the API (RFC 8725 §2.8)."""
    async with Engine(resource_server(idp)) as engine:
        with pytest.raises(InvalidTokenError):
            await accepted(engine, idp.sign("alice", "api", **claims))


async def test_what_an_issuer_leaves_empty_is_not_there(idp: StandInIssuer) -> None:
    """Older Keycloaks write 0 for what they do not know, others null."""
    async with Engine(resource_server(idp)) as engine:
        claims: dict[str, Any] = {"nbf": 0, "auth_time": 0, "nonce": "n"}
        token = await accepted(engine, idp.sign("alice", "api", **claims))
        assert (token.not_before, token.auth_time) == (0, None)
        null = jwt.decode(idp.sign("alice", "api"), options={"verify_signature": False})
        null |= dict.fromkeys(("sid", "auth_time", "nbf", "scope", "jti"))
        encoded = jwt.encode(null, idp._keys["first"], algorithm="RS256", headers={"kid": "first"})
        token = await accepted(engine, encoded)
        assert token.jti.startswith("sha256:")
        fresh = await accepted(engine, idp.sign("alice", "api", fresh=True))
        assert not fresh.fresh  # the claim means something else there
        spaced = await accepted(engine, idp.sign("alice", "api", scope="a\u00a0admin  b"))
        assert spaced.scopes == {"a\u00a0admin", "b"}
        with pytest.raises(InvalidTokenError):
            await accepted(engine, idp.sign("alice", "api", scope=["a admin"]))


async def test_cognito_s_audience_has_another_name(idp: StandInIssuer) -> None:
    """Its access tokens have no `aud`, and would all be refused."""
    names = {"aud": "client_id"}
    settings = resource_server(idp, audience="app", claim_names=names)
    async with Engine(settings) as engine:
        claims: dict[str, Any] = {"aud": None, "client_id": "app", "token_use": "access"}
        await accepted(engine, idp.sign("alice", "x", **_cognito(claims)))
        with pytest.raises(InvalidTokenError):
            await accepted(engine, idp.sign("a", "app", **_cognito({**claims, "client_id": "b"})))


def _cognito(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name != "aud"}


async def test_a_revocation_of_an_encoded_token_finds_its_key(idp: StandInIssuer) -> None:
    """A sign-out right after the issuer changed its key would fail."""
    clock = ManualClock()
    async with Engine(resource_server(idp), clock=clock) as engine:
        idp.add_key("second")
        clock.advance(COOLDOWN_SECONDS + 1)
        token = idp.sign("alice", "api", kid="second")
        assert (await engine.revoke(token)).revocations == 1
        with pytest.raises(RevokedTokenError):
            await accepted(engine, token)


async def test_a_key_without_a_name_is_replaced_too(idp: StandInIssuer) -> None:
    """An issuer with one nameless key would have everybody refused for five minutes."""
    clock = ManualClock()
    del idp.document["keys"][0]["kid"]
    async with Engine(resource_server(idp), clock=clock) as engine:
        claims = jwt.decode(idp.sign("a", "api"), options={"verify_signature": False})
        await accepted(engine, jwt.encode(claims, idp._keys["first"], algorithm="RS256"))
        idp.document["keys"].clear()
        idp.add_key("second")
        del idp.document["keys"][0]["kid"]
        clock.advance(COOLDOWN_SECONDS + 1)
        new = jwt.encode(claims, idp._keys["second"], algorithm="RS256")
        assert (await accepted(engine, new)).subject == "a"


def test_a_published_key_for_something_else_is_ignored(idp: StandInIssuer) -> None:
    """A key for encryption would verify signatures (RFC 7517 §4.3)."""
    (entry,) = idp.document["keys"]
    for operations, count in ((["verify"], 1), (["encrypt"], 0), (["sign"], 0), (5, 0)):
        found = published_keys({"keys": [{**entry, "key_ops": operations}]}, ["RS256"])
        assert len(found) == count


async def test_who_signs_in_again_elsewhere_is_let_in(idp: StandInIssuer) -> None:
    """For as long as the leeway, nobody could come back after a sign-out."""
    async with Engine(resource_server(idp)) as engine:
        await engine.revoke_subject("alice")
        await engine.revoke_all()
        later = int(time.time()) + 2
        await accepted(engine, idp.sign("alice", "api", iat=later, exp=later + 60))
        with pytest.raises(RevokedTokenError):
            await accepted(engine, idp.sign("alice", "api", iat=later - 10))


async def test_a_bus_that_is_closed_while_it_starts_fetches_nothing(idp: StandInIssuer) -> None:
    """A task would be left behind that no close ends."""
    engine = Engine(resource_server(idp))
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    await engine.close()
    await starting
    assert engine.status().state == "closed"
    assert not [task for task in asyncio.all_tasks() if "jwks" in task.get_name()]
