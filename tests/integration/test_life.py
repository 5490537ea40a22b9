"""From sign-in to sign-out, over HTTP and WebSockets, on instances that share a real Redis."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from revokebus.testing import AppServer, RedisServer, serving
from revokebus.testing.redis_server import embedded_valkey
from tests.hostile import hostile_tokens
from tests.support import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SECRET = secrets.token_urlsafe(64)
APP = "tests.life_app:app"


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


@pytest.fixture(scope="module")
def redis_for_all(redis_binary: str) -> Iterator[RedisServer]:
    with RedisServer(redis_binary) as server:
        settle(server)
        yield server


def settings(redis: RedisServer, **changes: str) -> dict[str, str]:
    own = {f"REVOKEBUS_{name.upper()}": value for name, value in changes.items()}
    return {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis.url, **own}


@pytest.fixture(scope="module")
def three(redis_for_all: RedisServer) -> Iterator[list[AppServer]]:
    # A grace is set, and shown to be for the same client only.
    environment = settings(redis_for_all, rotation_grace="30", redis_timeout="5")
    servers = [AppServer(APP, environment) for _ in range(3)]
    with serving(*servers):
        yield servers


@pytest.fixture(scope="module")
def without_grace(redis_for_all: RedisServer) -> Iterator[list[AppServer]]:
    environment = settings(redis_for_all, redis_timeout="10", rotation_grace="0")
    servers = [AppServer(APP, environment) for _ in range(3)]
    with serving(*servers):
        yield servers


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=250)
    async with httpx2.AsyncClient(timeout=30, limits=limits) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def sign_in(
    http: httpx2.AsyncClient, server: AppServer, user: str = "alice", **query: Any
) -> dict[str, Any]:
    answer = await http.post(f"{server.url}/login/{user}", params=query)
    pair: dict[str, Any] = answer.raise_for_status().json()
    return pair


async def status(http: httpx2.AsyncClient, server: AppServer, token: str, path: str = "me") -> int:
    return (await http.get(f"{server.url}/{path}", headers=bearer(token))).status_code


async def refresh(
    http: httpx2.AsyncClient, server: AppServer, pair: dict[str, Any], agent: str = "browser"
) -> httpx2.Response:
    headers = {**bearer(pair["refresh_token"]), "User-Agent": agent}
    return await http.post(f"{server.url}/refresh", headers=headers)


async def refused_by_all(http: httpx2.AsyncClient, servers: list[AppServer], token: str) -> None:
    deadline = time.monotonic() + 5
    while [await status(http, one, token) for one in servers] != [401] * len(servers):
        assert time.monotonic() < deadline


# Rotation


async def test_200_replays_at_once_succeed_once_and_end_the_session(
    http: httpx2.AsyncClient, without_grace: list[AppServer]
) -> None:
    """A stolen refresh token would buy a session of its own (RFC 9700 §4.14.2)."""
    pair = await sign_in(http, without_grace[0])
    attempts = [refresh(http, without_grace[number % 3], pair) for number in range(200)]
    answers = await asyncio.gather(*attempts)
    statuses = [answer.status_code for answer in answers]
    # Some come while it is not known yet whether the first was answered, and are to try again.
    assert set(statuses) <= {200, 401, 503}, set(statuses)
    assert statuses.count(200) == 1
    assert (await refresh(http, without_grace[0], pair)).status_code == 401
    (granted,) = [answer.json() for answer in answers if answer.status_code == 200]
    for token in (pair["access_token"], granted["access_token"]):
        await refused_by_all(http, without_grace, token)
    for server in without_grace:
        assert (await refresh(http, server, granted)).status_code == 401
    other = await sign_in(http, without_grace[1])  # only that session
    assert await status(http, without_grace[2], other["access_token"]) == 200


async def test_200_refreshes_of_one_browser_get_one_answer(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """Two tabs that refresh at the same moment would sign each other out."""
    pair = await sign_in(http, three[0])
    attempts = [refresh(http, three[number % 3], pair) for number in range(200)]
    answers = await asyncio.gather(*attempts)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    renewed = answers[0].json()
    for server in three:
        assert await status(http, server, renewed["access_token"]) == 200


async def test_the_grace_is_for_nobody_else(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """Within the grace, a thief elsewhere would be given the tokens, too."""
    pair = await sign_in(http, three[0])
    renewed = (await refresh(http, three[0], pair)).raise_for_status().json()
    stolen = await refresh(http, three[1], pair, agent="thief")
    assert stolen.status_code == 401
    assert "used before" in stolen.json()["detail"]
    await refused_by_all(http, three, renewed["access_token"])
    assert (await refresh(http, three[0], pair)).status_code == 401


async def test_a_logout_ends_access_and_refresh_together(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """Who has logged out could refresh (flask-jwt-extended 53)."""
    pair = await sign_in(http, three[0])
    renewed = (await refresh(http, three[1], pair)).raise_for_status().json()
    done = await http.post(f"{three[2].url}/logout", headers=bearer(renewed["access_token"]))
    assert done.status_code == 200
    for token in (pair["access_token"], renewed["access_token"]):
        await refused_by_all(http, three, token)
    for server in three:
        assert (await refresh(http, server, renewed)).status_code == 401


async def test_a_sign_out_everywhere_leaves_room_for_the_next_sign_in(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """A user who changes his password could not go on, or his thief could."""
    sessions = [await sign_in(http, server) for server in three]
    await http.post(f"{three[0].url}/sign-out-everywhere/alice")
    new = await sign_in(http, three[0])
    for session in sessions:
        await refused_by_all(http, three, session["access_token"])
        assert (await refresh(http, three[1], session)).status_code == 401
    assert [await status(http, one, new["access_token"]) for one in three] == [200] * 3


async def test_refreshing_fails_closed(redis_binary: str, http: httpx2.AsyncClient) -> None:
    """While Redis is away, a stolen refresh token could be used as often as one likes."""
    with RedisServer(redis_binary) as redis, AppServer(APP, settings(redis)) as server:
        pair = await sign_in(http, server)
        redis.stop()
        for _ in range(3):
            answer = await refresh(http, server, pair)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        redis.start()
        deadline = time.monotonic() + 10
        while (await refresh(http, server, pair)).status_code != 200:  # and was not used up
            assert time.monotonic() < deadline


# Guards


async def test_each_guard_over_http(http: httpx2.AsyncClient, three: list[AppServer]) -> None:
    """A route would open for less than it demands."""
    plain = (await sign_in(http, three[0]))["access_token"]
    reader = (await sign_in(http, three[0], scope="read"))["access_token"]
    writer = (await sign_in(http, three[0], scope="read write"))["access_token"]
    new = await sign_in(http, three[0], fresh=True)
    opened = {
        "me": (200, 200, 200),
        "read": (403, 200, 200),
        "both": (403, 403, 200),
        "maybe": (200, 200, 200),
        "fresh": (401, 401, 401),
    }
    for path, statuses in opened.items():
        for token, expected in zip((plain, reader, writer), statuses, strict=True):
            assert await status(http, three[1], token, path) == expected, path
    assert await status(http, three[1], new["access_token"], "fresh") == 200
    renewed = (await refresh(http, three[1], new)).raise_for_status().json()
    refused = await http.get(f"{three[1].url}/fresh", headers=bearer(renewed["access_token"]))
    assert refused.status_code == 401
    challenge = refused.headers["WWW-Authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge  # RFC 9470


async def test_optional_is_for_who_brings_nothing(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """Somebody who was signed out would go on as a stranger, and not know."""
    url = f"{three[0].url}/maybe"
    assert (await http.get(url)).json() == "nobody"
    pair = await sign_in(http, three[0])
    assert (await http.get(url, headers=bearer(pair["access_token"]))).json() == "alice"
    await http.post(f"{three[0].url}/logout", headers=bearer(pair["access_token"]))
    for token in (pair["access_token"], pair["refresh_token"], "nonsense"):
        assert (await http.get(url, headers=bearer(token))).status_code == 401
    assert (await http.get(url, headers={"Authorization": "Bearer"})).status_code == 401


async def test_a_sign_in_grows_old(
    http: httpx2.AsyncClient, without_grace: list[AppServer]
) -> None:
    """A route for which one has to sign in anew would open for a session of last month."""
    pair = await sign_in(http, without_grace[0])
    assert await status(http, without_grace[0], pair["access_token"], "recent") == 200
    renewed = (await refresh(http, without_grace[0], pair)).raise_for_status().json()
    deadline = time.monotonic() + 10
    while await status(http, without_grace[0], renewed["access_token"], "recent") != 401:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    answer = await http.get(
        f"{without_grace[0].url}/recent", headers=bearer(renewed["access_token"])
    )
    assert 'max_age="1.5"' in answer.headers["WWW-Authenticate"]


async def test_two_tokens_are_an_error(http: httpx2.AsyncClient, three: list[AppServer]) -> None:
    """Of two tokens the bad one would be passed over, or a proxy see the other one."""
    token = (await sign_in(http, three[0]))["access_token"]
    url = three[0].url
    assert (await http.get(f"{url}/link", params={"access_token": token})).status_code == 200
    assert (await http.get(f"{url}/me", params={"access_token": token})).status_code == 401
    both = await http.get(f"{url}/link", params={"access_token": token}, headers=bearer(token))
    assert both.status_code == 400
    assert 'error="invalid_request"' in both.headers["WWW-Authenticate"]
    twice = await http.get(f"{url}/link?access_token={token}&access_token={token}")
    assert twice.status_code == 400
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    assert (await http.get(f"{url}/me", headers=headers)).status_code == 400


async def test_hostile_tokens_over_http(http: httpx2.AsyncClient, three: list[AppServer]) -> None:
    """A server in between, or the framework, would make a 500 of what the verifier refuses."""
    good = (await sign_in(http, three[0]))["access_token"]
    for name, token in hostile_tokens(SECRET).items():
        if len(token) > 60_000 or not token.isprintable():
            continue  # uvicorn itself refuses such a header
        headers = {b"Authorization": b"Bearer " + token.encode("latin-1")}
        answer = await http.get(f"{three[0].url}/me", headers=headers)
        assert answer.status_code == 401, name
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), name
    for name in ("1 MB", "1 MB of letters"):
        token = hostile_tokens(SECRET)[name]
        answer = await http.get(f"{three[0].url}/link", params={"access_token": token[:50_000]})
        assert 400 <= answer.status_code < 500, name
    assert await status(http, three[0], good) == 200


# What stands open


def socket_url(server: AppServer, path: str) -> str:
    return f"ws{server.url.removeprefix('http')}/{path}"


@asynccontextmanager
async def chatting(server: AppServer, token: str, path: str = "ws") -> AsyncIterator[Any]:
    url = socket_url(server, path)
    async with connect(url, additional_headers=bearer(token), proxy=None) as websocket:
        yield websocket


@pytest.mark.parametrize("end", ["logout", "everywhere", "replay"])
async def test_a_websocket_ends_with_its_token(
    http: httpx2.AsyncClient, without_grace: list[AppServer], end: str
) -> None:
    """Who was signed out would go on reading the chat (mattermost 7981)."""
    pair = await sign_in(http, without_grace[0])
    other = await sign_in(http, without_grace[0], "bob")
    token = pair["access_token"]
    async with (
        chatting(without_grace[1], token) as one,
        chatting(without_grace[2], token) as two,
        chatting(without_grace[2], other["access_token"]) as bobs,
    ):
        for websocket in (one, two, bobs):
            await websocket.send("hello")
        assert [await each.recv() for each in (one, two)] == ["alice: hello"] * 2
        assert await bobs.recv() == "bob: hello"
        if end == "logout":
            await http.post(f"{without_grace[0].url}/logout", headers=bearer(token))
        elif end == "everywhere":
            await http.post(f"{without_grace[0].url}/sign-out-everywhere/alice")
        else:
            for _ in range(2):
                await refresh(http, without_grace[0], pair)
        for websocket in (one, two):
            async with asyncio.timeout(5):
                with pytest.raises(ConnectionClosed) as caught:
                    await websocket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
            assert caught.value.rcvd.reason == "Token has been revoked"
        await bobs.send("still here")
        assert await bobs.recv() == "bob: still here"


async def test_a_route_chooses_its_close_code(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """A page could not tell by the code why it was cut off."""
    token = (await sign_in(http, three[0]))["access_token"]
    url = socket_url(three[1], f"ws-own-code?access_token={token}")
    async with connect(url, proxy=None) as websocket:
        assert await websocket.recv() == "open"
        await http.post(f"{three[0].url}/sign-out-everywhere/alice")
        with pytest.raises(ConnectionClosed) as caught:
            await websocket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4401


async def test_no_websocket_opens_without_a_good_token(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """A WebSocket would be a way round every check."""
    pair = await sign_in(http, three[0])
    await http.post(f"{three[0].url}/logout", headers=bearer(pair["access_token"]))
    for token in (pair["access_token"], pair["refresh_token"], "x.y.z"):
        with pytest.raises(InvalidStatus) as caught:
            async with chatting(three[0], token):
                pytest.fail("opened")
        assert caught.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        async with connect(socket_url(three[0], "ws"), proxy=None):
            pytest.fail("opened")


async def test_a_stream_ends_with_its_token(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """Events would go on flowing to who was signed out."""
    token = (await sign_in(http, three[0]))["access_token"]
    async with (
        asyncio.timeout(10),
        http.stream("GET", f"{three[1].url}/events", headers=bearer(token)) as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "data: open"
        await http.post(f"{three[0].url}/sign-out-everywhere/alice")
        rest = [line async for line in lines]
    assert "data: Token has been revoked" in rest


async def test_a_long_poll_ends_with_its_token(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """A poll would bring news to who was signed out."""
    token = (await sign_in(http, three[0]))["access_token"]
    polling = asyncio.create_task(http.get(f"{three[1].url}/poll", headers=bearer(token)))
    await asyncio.sleep(0.1)
    await http.post(f"{three[0].url}/sign-out-everywhere/alice")
    async with asyncio.timeout(5):
        answer = await polling
    assert (answer.status_code, answer.json()["detail"]) == (401, "Token has been revoked")


async def test_a_websocket_ends_when_its_token_expires(
    redis_for_all: RedisServer, http: httpx2.AsyncClient
) -> None:
    """A token of a quarter of an hour would be good for as long as one stays connected."""
    with AppServer(APP, settings(redis_for_all, access_ttl="1", leeway="0")) as server:
        token = (await sign_in(http, server))["access_token"]
        async with chatting(server, token) as websocket, asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as caught:
                await websocket.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "Token has expired")


# Cookies


@pytest.fixture(scope="module")
def cookie_server(redis_for_all: RedisServer) -> Iterator[AppServer]:
    environment = settings(
        redis_for_all,
        token_sources="header,cookie",
        cookies__secure="false",
        cookies__refresh_path="/refresh",
        cookies__allowed_origins='["https://app.example"]',
    )
    with AppServer(APP, environment) as server:
        yield server


async def test_the_cookies_are_out_of_reach(
    http: httpx2.AsyncClient, redis_for_all: RedisServer
) -> None:
    """A script of another party in the page, or a listener on the way, would read the tokens."""
    with AppServer(APP, settings(redis_for_all, token_sources="cookie")) as server:
        answer = await http.post(f"{server.url}/login/alice")
        assert answer.headers["Cache-Control"] == "no-store"
        flags = {
            cookie.partition("=")[0]: set(cookie.lower().split("; ")[1:])
            for cookie in answer.headers.get_list("set-cookie")
        }
    names = {"access_token", "refresh_token", "csrf_token"}
    assert set(flags) == {f"__Host-{name}" for name in names}
    for name, set_ in flags.items():
        assert {"secure", "samesite=lax", "path=/"} <= set_
        assert ("httponly" in set_) == (name != "__Host-csrf_token")


async def test_a_change_needs_the_csrf_header(
    http: httpx2.AsyncClient, cookie_server: AppServer
) -> None:
    """Any page that the user visits could act in his name."""
    url = cookie_server.url
    answer = await http.post(f"{url}/login/alice")
    csrf = answer.cookies["csrf_token"]
    assert (await http.get(f"{url}/me")).json() == "alice"
    other = httpx2.AsyncClient()
    others = (await other.post(f"{url}/login/bob")).cookies["csrf_token"]
    await other.aclose()
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": others}):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            refused = await http.request(method, f"{url}/change", headers=headers)
            assert refused.status_code == (403 if method == "POST" else 405)
    headers = {"X-CSRF-Token": csrf}
    assert (await http.post(f"{url}/change", headers=headers)).json() == "alice"
    # Refreshing keeps the value, and so do other tabs.
    renewed = await http.post(f"{url}/refresh", headers=headers)
    assert renewed.status_code == 200
    # Who sends a header has no cookie to be ridden on; both at once are an error.
    token = answer.json()["access_token"]
    assert (await http.get(f"{url}/me", headers=bearer(token))).status_code == 400
    async with httpx2.AsyncClient() as plain:
        assert (await plain.post(f"{url}/change", headers=bearer(token))).status_code == 200
    assert (await http.post(f"{url}/logout", headers=headers)).status_code == 200
    assert "access_token" not in http.cookies
    assert (await http.get(f"{url}/me")).status_code == 401


async def test_a_websocket_with_cookies_is_for_our_pages(
    http: httpx2.AsyncClient, cookie_server: AppServer
) -> None:
    """Any page could open a WebSocket in the user's name and read along (CWE-1385)."""
    answer = await http.post(f"{cookie_server.url}/login/alice")
    cookie = {"Cookie": f"access_token={answer.cookies['access_token']}"}
    for origin, opens in (
        (cookie_server.url, True),
        (cookie_server.url.upper(), True),
        ("https://app.example", True),
        ("https://evil.example", False),
        ("https://app.example.evil", False),
        (f"{cookie_server.url}.evil", False),
        (f"http://127.0.0.1:{cookie_server.port + 1}", False),
        (f"foo://127.0.0.1:{cookie_server.port}", False),
        ("null", False),
        ("", False),
        (None, False),
    ):
        headers = {**cookie, **({"Origin": origin} if origin is not None else {})}
        url = socket_url(cookie_server, "ws")
        if opens:
            async with connect(url, additional_headers=headers, proxy=None) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "alice: hello"
        else:
            with pytest.raises(InvalidStatus) as caught:
                async with connect(url, additional_headers=headers, proxy=None):
                    pytest.fail(f"opened for {origin}")
            assert caught.value.response.status_code == 403


# RFC 7009 and RFC 7662

BASIC = "Basic " + base64.b64encode(b"web:web-secret").decode()
TV = "Basic " + base64.b64encode(f"tv:{quote_plus('tv:sec ret%')}".encode()).decode()


async def oauth(
    http: httpx2.AsyncClient,
    server: AppServer,
    path: str,
    form: dict[str, str],
    basic: str | None = BASIC,
) -> httpx2.Response:
    headers = {"Authorization": basic} if basic else {}
    return await http.post(f"{server.url}/oauth/{path}", data=form, headers=headers)


async def test_rfc_7009_revocation(http: httpx2.AsyncClient, three: list[AppServer]) -> None:
    """A standard OAuth client could not sign its user out, or sign out another's."""
    one = await sign_in(http, three[0])
    two = await sign_in(http, three[0])
    token = one["access_token"]
    for wrong in (None, "Basic x", "Basic " + base64.b64encode(b"web:wrong").decode(), "Bearer a"):
        answer = await oauth(http, three[0], "revoke", {"token": token}, wrong)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    answer = await oauth(http, three[0], "revoke", {"token": token}, TV)  # §2.1, ownership
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert await status(http, three[0], token) == 200
    # A wrong hint is no hint (§2.1); a second time is no error (§2.2); access only.
    for _ in range(2):
        form = {"token": token, "token_type_hint": "refresh_token"}
        answer = await oauth(http, three[1], "revoke", form)
        assert (answer.status_code, answer.content) == (200, b"")
    await refused_by_all(http, three, token)
    # A refresh token takes its session with it.
    answer = await oauth(http, three[1], "revoke", {"token": two["refresh_token"]})
    assert answer.status_code == 200
    await refused_by_all(http, three, two["access_token"])
    assert (await refresh(http, three[2], two)).status_code == 401
    for unknown in ("nonsense", "a.b.c", "x" * 20_000):
        assert (await oauth(http, three[0], "revoke", {"token": unknown})).status_code == 200


async def test_rfc_7009_takes_a_form_and_nothing_else(
    http: httpx2.AsyncClient, three: list[AppServer]
) -> None:
    """A token in an address ends up in logs; two of them are read differently by two parsers."""
    token = (await sign_in(http, three[0]))["access_token"]
    url, basic = f"{three[0].url}/oauth/revoke", {"Authorization": BASIC}
    kind = {**basic, "Content-Type": "application/x-www-form-urlencoded"}
    long = b"token=" + b"a" * 100_000
    for attempt in (
        http.post(url, json={"token": token}, headers=basic),
        http.post(f"{url}?token={token}", headers=basic),
        http.post(f"{url}?token={token}", content=b"x=1", headers=kind),
        http.post(url, content=b"token=a&token=b", headers=kind),
        http.post(url, content=b"token=", headers=kind),
        http.post(url, content=b"token=%ff", headers=kind),
        http.post(url, content="token=\xe9".encode("latin-1"), headers=kind),
        http.post(url, content=b"&".join([b"a%d=1" % n for n in range(100)]), headers=kind),
        http.post(url, content=long, headers=kind),
        http.post(url, data={"token": token}, files={"f": b"x"}, headers=basic),
        oauth(http, three[0], "revoke", {"token": token, "client_secret": "web-secret"}),
    ):
        answer = await attempt
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (await http.get(url, headers=basic)).status_code == 405
    assert await status(http, three[0], token) == 200
    form = {"token": token, "client_id": "web", "client_secret": "web-secret"}
    assert (await oauth(http, three[0], "revoke", form, None)).status_code == 200
    await refused_by_all(http, three, token)


async def test_rfc_7662_introspection(http: httpx2.AsyncClient, three: list[AppServer]) -> None:
    """A resource server would believe a token that is worth nothing, or learn why it is."""
    pair = await sign_in(http, three[0], scope="read write")
    access = await oauth(http, three[1], "introspect", {"token": pair["access_token"]})
    assert access.headers["Cache-Control"] == "no-store"
    body = access.json()
    assert body["active"] is True
    assert (body["sub"], body["scope"], body["client_id"]) == ("alice", "read write", "web")
    assert (body["token_type"], body["sid"]) == ("Bearer", pair["session_id"])
    assert body["exp"] > body["iat"]
    assert "tenant" not in body
    refreshing = await oauth(http, three[1], "introspect", {"token": pair["refresh_token"]})
    assert refreshing.json()["active"] is True
    assert "token_type" not in refreshing.json()
    answer = await oauth(http, three[1], "introspect", {"token": pair["access_token"]}, None)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    (await refresh(http, three[1], pair)).raise_for_status()  # spent where it was exchanged
    other = await sign_in(http, three[0])
    await http.post(f"{three[1].url}/logout", headers=bearer(other["access_token"]))
    inactive = ["nonsense", pair["refresh_token"], other["access_token"], other["refresh_token"]]
    for token in (*inactive, *list(hostile_tokens(SECRET).values())[::7]):
        if len(token) < 50_000:
            form = {"token": token.encode("utf-8", "replace").decode()}
            answer = await oauth(http, three[1], "introspect", form)
            assert (answer.status_code, answer.json()) == (200, {"active": False})
            assert answer.headers["Cache-Control"] == "no-store"
