"""The pages of ``docs/``: each program in them is started and used as the page says."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from revokebus import Settings
from revokebus.cli.commands import app
from revokebus.testing import AppServer, RedisServer
from revokebus.testing.outside_issuer import StandInIssuer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "admin-page",
    "browser-cookies",
    "devices",
    "guards",
    "keys",
    "monitoring",
    "moving-over",
    "oauth-endpoints",
    "outside-issuers",
    "refresh-tokens",
    "sign-out-everywhere",
    "users",
    "websockets-and-streams",
]


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text()
    return [body for name, body in BLOCK.findall(text) if name == language]


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[AppServer]]:
    """Start the program that the (first) Python blocks of a page are together."""

    def start(page: str, first: int | None = None, **changes: str) -> AppServer:
        program = "\n\n".join(blocks(page, "python")[:first])
        name = f"page_{page.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        exported = re.findall(
            r"^export (\w+)=([^$\n]+)$", "".join(blocks(page, "sh")), re.MULTILINE
        )
        environment = {
            "REVOKEBUS_REDIS_URL": "memory://",
            "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64),
            **dict(exported),
            **changes,
        }
        return AppServer(f"{name}:app", environment)

    return start


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=10) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_page_with_a_program_has_a_test() -> None:
    """A page added later would rot unseen."""
    with_programs = {path.stem for path in DOCS.glob("*.md") if "```python" in path.read_text()}
    with_programs -= {"quick-start", "testing", "from-fastapi-jwt-auth"}  # tests of their own
    assert with_programs == set(PAGES)
    source = Path(__file__).read_text()
    assert all(f'serve("{page}"' in source or page == "keys" for page in PAGES)


def test_browser_cookies(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would lock his users out, or let others act in their name."""
    (script,) = blocks("browser-cookies", "js")
    assert re.search(r"__Host-csrf_token=", script)
    with serve("browser-cookies", REVOKEBUS_COOKIES__SECURE="false") as server:
        http.post(f"{server.url}/login").raise_for_status()
        csrf = {"X-CSRF-Token": http.cookies["csrf_token"]}
        url = f"{server.url}/name?name=Alice"
        assert http.put(url).status_code == 403
        assert http.put(url, headers=csrf).json() == "alice is now Alice"
        assert http.post(f"{server.url}/refresh", headers=csrf).status_code == 200
        assert http.put(url, headers=csrf).status_code == 200
        assert http.post(f"{server.url}/logout", headers=csrf).status_code == 200
        assert http.put(url, headers=csrf).status_code == 401
        elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        assert http.post(f"{server.url}/sign-in", headers=elsewhere).status_code == 403
        assert http.post(f"{server.url}/sign-in").status_code == 200
    sources = {"REVOKEBUS_TOKEN_SOURCES": "header", "REVOKEBUS_REFRESH_SOURCES": "cookie"}
    plainly = {"REVOKEBUS_COOKIES__SECURE": "false"}
    with serve("browser-cookies", **sources, **plainly) as server, httpx2.Client() as page:
        told = page.post(f"{server.url}/token").json()
        assert "refresh_token" not in told
        csrf = {"X-CSRF-Token": page.cookies["csrf_token"]}
        assert page.put(
            f"{server.url}/name?name=A", headers=bearer(told["access_token"])
        ).is_success
        assert page.post(f"{server.url}/refresh").status_code == 403
        assert page.post(f"{server.url}/refresh", headers=csrf).status_code == 200


def test_admin_page(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would lock himself out, or let everybody in."""
    with serve("admin-page", REVOKEBUS_COOKIES__SECURE="false") as server:
        url = f"{server.url}/revokebus"
        assert http.get(f"{url}/").status_code == 401
        http.post(f"{server.url}/login").raise_for_status()
        assert "<title>RevokeBus</title>" in http.get(f"{url}/").text
        headers = {"X-CSRF-Token": http.cookies["csrf_token"], "Sec-Fetch-Site": "same-origin"}
        order = {"kind": "subject", "value": "alice"}
        answer = http.post(f"{url}/revoke", json=order, headers=headers)
        assert answer.json()["confirmations"][0]["outcome"] == "applied"


def test_tokens_from_before_the_move(serve: Any, http: httpx2.Client) -> None:
    """Every user would be signed out by the move, or could not be signed out after it."""
    with serve("moving-over") as server:

        def former(subject: str = "alice", seconds: float = 60, key: str = "", **more: Any) -> str:
            claims = {"sub": subject, "exp": int(time.time() + seconds), **more}
            key = key or "the-key-from-before-with-32-bytes-or-more"
            return jwt.encode(claims, key, algorithm="HS256")

        def ask(token: str) -> Any:
            answer = http.get(f"{server.url}/who", headers=bearer(token))
            return answer.json() if answer.is_success else answer.status_code

        assert ask(former()) == "alice"
        assert ask(former(iat=int(time.time()))) == "alice"
        assert [ask(former(seconds=-1)), ask(former(key="x" * 40)), ask("x")] == [401, 401, 401]
        assert http.get(f"{server.url}/who").status_code == 401
        pair = http.post(f"{server.url}/renew", headers=bearer(former())).json()
        assert ask(pair["access_token"]) == "alice"
        assert http.get(f"{server.url}/me", headers=bearer(former())).status_code == 401
        http.delete(f"{server.url}/logout", headers=bearer(pair["access_token"]))
        assert (ask(pair["access_token"]), ask(former())) == (401, "alice")


def test_moving_over(serve: Any, http: httpx2.Client, tmp_path: Path) -> None:
    """Whoever moves over would lose his log-outs, or what was revoked before."""
    with RedisServer() as redis:
        environment = {"REVOKEBUS_REDIS_URL": redis.url}
        with serve("moving-over", 1, **environment) as server:
            pair = http.post(f"{server.url}/login").json()
            header = bearer(pair["access_token"])
            assert http.get(f"{server.url}/me", headers=header).json() == "alice"
            assert http.get(f"{server.url}/maybe").json() == "nobody"
            fresh = http.post(f"{server.url}/refresh", headers=bearer(pair["refresh_token"])).json()
            old = jwt.decode(fresh["access_token"], options={"verify_signature": False})["jti"]
            # What was revoked before: an id in a Redis, and one that is kept elsewhere.
            there = str(uuid.uuid4())
            with RedisServer() as before, before.client() as client:
                client.set(there, "true", ex=60)
                (command,) = blocks("moving-over", "sh")
                command = command.replace("redis://old:6379/0", before.url)
                (line,) = blocks("moving-over", "text")
                line = line.replace("the-jti", old).replace("1798092088", str(time.time() + 60))
                moved = {**os.environ, **environment, "LINE": line}
                moved["PATH"] = f"{Path(sys.executable).parent}:{moved['PATH']}"
                script = f'{command}\necho "$LINE" | revokebus import'
                subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=moved, check=True)
            with redis.client() as client:
                assert client.exists(f"{{revokebus}}:r:jti:{there}")
            url = f"{server.url}/me"
            until = time.monotonic() + 10
            while http.get(url, headers=bearer(fresh["access_token"])).status_code != 401:
                assert time.monotonic() < until
            assert http.get(url, headers=header).status_code == 200
            http.delete(f"{server.url}/logout", headers=header).raise_for_status()
            assert http.get(url, headers=header).status_code == 401


def test_operating(redis_binary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the page would not start a server, or not content the audit."""
    directives, url, *_ = blocks("operating", "text")
    options = dict(line.split(maxsplit=1) for line in directives.splitlines())
    with RedisServer(redis_binary, options) as redis:
        monkeypatch.setenv("REVOKEBUS_REDIS_URL", redis.url)
        told = CliRunner().invoke(app, ["doctor", "--json"])
        levels = {each["check"]: each["level"] for each in json.loads(told.stdout)}
    assert {check for check, level in levels.items() if level != "ok"} == {"replicas"}
    monkeypatch.setenv(*url.strip().split("=", 1))
    settings = Settings(secret_key=secrets.token_urlsafe(64))
    assert "ssl_ca_certs=/etc/ssl/redis-ca.pem" in settings.redis_url
    (script,) = blocks("operating", "sh")
    names = {line.split()[1] for line in script.splitlines()}
    commands = [(each.name, each.callback) for each in app.registered_commands]
    assert names <= {name or work.__name__.replace("_", "-") for name, work in commands if work}


def test_monitoring(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would look at metrics that are not there."""
    with serve("monitoring") as server:
        text = http.get(f"{server.url}/metrics/").text
        assert 'revokebus_state{state="fresh"} 1.0' in text
        assert http.get(f"{server.url}/readyz").json()["status"] == "ready"
        assert http.get(f"{server.url}/livez").status_code == 200


def test_websockets_and_streams(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would leave connections open for who was signed out."""
    with serve("websockets-and-streams") as server:

        def sign_in() -> str:
            return str(http.post(f"{server.url}/login").json()["access_token"])

        def sign_out(token: str) -> None:
            http.post(f"{server.url}/logout", headers=bearer(token)).raise_for_status()

        at = f"ws{server.url.removeprefix('http')}"
        for path, code in (("echo", 1008), ("own-code", 4401), ("from-a-page", 1008)):
            token = sign_in()
            query = f"?access_token={token}" if path == "from-a-page" else ""
            headers = {} if query else bearer(token)
            url = f"{at}/{path}{query}"
            with connect(url, additional_headers=headers, proxy=None) as websocket:
                if path == "echo":
                    websocket.send("hello")
                assert websocket.recv(5) in ("hello", "welcome", "alice")
                sign_out(token)
                with pytest.raises(ConnectionClosed) as caught:
                    websocket.recv(5)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == code
            with pytest.raises(InvalidStatus):
                connect(url, additional_headers=headers, proxy=None)
        token = sign_in()
        with http.stream("GET", f"{server.url}/events", headers=bearer(token)) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "data: welcome"
            sign_out(token)
            assert [line for line in lines if line] == []


def test_outside_issuers(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would refuse the tokens of his issuer, or accept those for others."""
    with StandInIssuer() as issuer:
        environment = {
            "REVOKEBUS_JWKS_URL": issuer.jwks_url,
            "REVOKEBUS_ISSUER": issuer.issuer,
            "REVOKEBUS_SECRET_KEY": "",
        }
        with serve("outside-issuers", 1, **environment) as server:
            token = issuer.sign("alice", "https://api.example", scope="read:items")
            answer = http.get(f"{server.url}/items", headers=bearer(token))
            assert answer.json() == "the items of alice"
            other = issuer.sign("alice", "https://other.example", scope="read:items")
            assert http.get(f"{server.url}/items", headers=bearer(other)).status_code == 401
            url = f"{server.url}/sign-out/alice"
            assert http.post(url, headers=bearer(token)).status_code == 403
            admin = issuer.sign("root", "https://api.example", scope="admin")
            http.post(url, headers=bearer(admin)).raise_for_status()
            assert http.get(f"{server.url}/items", headers=bearer(token)).status_code == 401
    found: dict[str, Any] = {}
    exec(blocks("outside-issuers", "python")[1], found)  # noqa: S102 - the page's own
    assert [each.issuer for each in found["settings"].issuers] == ["https://idp.example/"]


def test_sign_out_everywhere(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would sign out the wrong people."""
    with serve("sign-out-everywhere") as server:

        def sign_in(name: str = "alice") -> dict[str, str]:
            pair = http.post(f"{server.url}/login/{name}").json()
            return bearer(pair["access_token"])

        def status(headers: dict[str, str]) -> int:
            return http.get(f"{server.url}/me", headers=headers).status_code

        one, two = sign_in(), sign_in()
        assert http.post(f"{server.url}/password", headers=one).status_code == 204
        assert [status(each) for each in (one, two)] == [200, 401]
        two = sign_in()
        pair = http.post(f"{server.url}/stolen-laptop", headers=one).json()
        assert [status(each) for each in (one, two)] == [401, 401]
        new = bearer(pair["access_token"])
        assert status(new) == 200
        bob, root = sign_in("bob"), sign_in("root")
        assert status(bob) == 200
        for path in ("lost/watch", "tenants/7/sign-out"):
            assert http.post(f"{server.url}/{path}", headers=bob).status_code == 403
        dry = http.post(f"{server.url}/tenants/7/sign-out", headers=root).json()
        assert (dry["sessions"], dry["instances"], status(bob)) == (3, 1, 200)
        assert http.post(f"{server.url}/lost/watch", headers=root).status_code == 200
        assert [status(bob), status(new), status(root)] == [401, 401, 401]
        bob, root = sign_in("bob"), sign_in("root")
        http.post(f"{server.url}/tenants/7/sign-out?dry_run=false", headers=root)
        assert status(bob) == 401
    page = "\n\n".join(blocks("sign-out-everywhere", "python"))
    environment = {**os.environ, "REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64)}
    environment |= {"REVOKEBUS_REDIS_URL": "memory://"}
    done = subprocess.run(
        [sys.executable, "-c", page], env=environment, capture_output=True, text=True, check=True
    )
    assert "Receipt(revocations=1" in done.stdout


def test_devices(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would show one user the devices of another, or let him end them."""
    with serve("devices") as server:

        def sign_in(name: str, device: str) -> dict[str, str]:
            headers = {"User-Agent": device}
            pair: dict[str, str] = http.post(f"{server.url}/login/{name}", headers=headers).json()
            return pair

        def listed(pair: dict[str, str]) -> list[str]:
            answer = http.get(f"{server.url}/devices", headers=bearer(pair["access_token"]))
            return [each["device"] for each in answer.json()]

        phone, laptop, other = (
            sign_in(*each) for each in (("alice", "phone"), ("alice", "laptop"), ("bob", "pc"))
        )
        assert (listed(phone), listed(other)) == (["laptop", "phone"], ["pc"])
        http.post(f"{server.url}/refresh", headers=bearer(phone["refresh_token"]))
        assert listed(laptop) == ["phone", "laptop"]
        mine = bearer(laptop["access_token"])
        for pair, status in ((other, 404), (phone, 204), (phone, 404)):
            path = f"{server.url}/devices/{pair['session_id']}"
            assert http.delete(path, headers=mine).status_code == status
        assert (listed(laptop), listed(other)) == (["laptop"], ["pc"])
        tablet = sign_in("alice", "tablet")
        http.delete(f"{server.url}/devices", headers=mine)
        assert listed(laptop) == ["laptop"]
        refused = http.get(f"{server.url}/devices", headers=bearer(tablet["access_token"]))
        assert refused.status_code == 401


def test_refresh_tokens(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would let a thief refresh, or sign out who has two tabs."""
    with serve("refresh-tokens") as server:
        pair = http.post(f"{server.url}/login").json()
        command = blocks("refresh-tokens", "sh")[0].replace("localhost:8000", server.url)
        subprocess.run(
            ["bash", "-euc", command.replace("curl", "curl -sf")],
            env={**os.environ, "REFRESH_TOKEN": pair["refresh_token"], "no_proxy": "*"},
            check=True,
            capture_output=True,
        )
        pair = http.post(f"{server.url}/login").json()
        headers = bearer(pair["refresh_token"])
        first, second = (http.post(f"{server.url}/refresh", headers=headers) for _ in range(2))
        assert first.json() == second.json()
        access = bearer(first.json()["access_token"])
        assert http.get(f"{server.url}/me", headers=access).status_code == 200
        headers = bearer(second.json()["refresh_token"])
        changed = http.post(f"{server.url}/refresh-with-roles", headers=headers).json()
        claims = jwt.decode(changed["access_token"], options={"verify_signature": False})
        assert (claims["scope"], claims["roles"]) == ("items:read", ["reader"])
        pair = http.post(f"{server.url}/login").json()
        http.post(f"{server.url}/logout", headers=bearer(pair["access_token"]))
        answer = http.post(f"{server.url}/refresh", headers=bearer(pair["refresh_token"]))
        assert answer.status_code == 401
    with serve("refresh-tokens", REVOKEBUS_ROTATION_GRACE="0") as server:
        pair = http.post(f"{server.url}/login").json()
        headers = bearer(pair["refresh_token"])
        renewed = http.post(f"{server.url}/refresh", headers=headers).json()
        assert http.post(f"{server.url}/refresh", headers=headers).status_code == 401
        access = bearer(renewed["access_token"])
        assert http.get(f"{server.url}/me", headers=access).status_code == 401


def test_users(
    serve: Any, http: httpx2.Client, redis_binary: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """A page's reader would change passwords, and leave thieves signed in."""
    monkeypatch.chdir(tmp_path)
    with RedisServer(redis_binary) as redis:
        changes = {"REVOKEBUS_REDIS_URL": redis.url, "REVOKEBUS_REDIS_TIMEOUT": "0.5"}
        secret = {"REVOKEBUS_SECRET_KEY": secrets.token_urlsafe(64)}
        one, other = (serve("users", **changes, **secret) for _ in range(2))
        with one, other:
            http.post(f"{one.url}/users/alice", params={"password": "old"}).raise_for_status()

            def sign_in(password: str) -> dict[str, str]:
                answer = http.post(f"{one.url}/login/alice", params={"password": password})
                return bearer(answer.raise_for_status().json()["access_token"])

            def status(server: AppServer, headers: dict[str, str]) -> int:
                return http.get(f"{server.url}/me", headers=headers).status_code

            mine, thief = sign_in("old"), sign_in("old")
            assert http.get(f"{one.url}/me", headers=mine).json().startswith("alice of ")
            assert http.post(f"{one.url}/login/alice", params={"password": "x"}).status_code == 401
            redis.freeze()
            changed = http.post(f"{one.url}/password", params={"password": "new"}, headers=mine)
            assert changed.status_code == 204
            one.kill()  # it would have written what it owes
            redis.thaw()
            deadline = time.monotonic() + 15
            while status(other, thief) != 401:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert status(other, mine) == 200


def test_guards(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would open routes for less than he thinks."""
    with serve("guards") as server:
        plain, reader = (
            bearer(http.post(f"{server.url}/login", params={"scope": scope}).json()["access_token"])
            for scope in ("", "items:read")
        )

        def status(path: str, headers: dict[str, str] | None = None, method: str = "GET") -> int:
            return http.request(method, f"{server.url}{path}", headers=headers).status_code

        assert [status("/items", each) for each in (None, plain, reader)] == [401, 403, 200]
        assert [status("/news", each) for each in (None, bearer("x"), plain)] == [200, 401, 200]
        assert status("/transfer", plain, "POST") == status("/invoices", plain) == 200
        assert status("/weather", plain) == status("/download", plain) == 200
        token = plain["Authorization"].split()[1]
        assert status(f"/download?access_token={token}") == 200
        assert status(f"/download?access_token={token}", plain) == 400
        names = [
            http.get(f"{server.url}/whoami", headers=each).json()
            for each in (plain, bearer("sk-8f0c"), bearer("sk-0000"), {})
        ]
        assert names == ["alice", "the billing service", "nobody", "nobody"]
        assert http.get(f"{server.url}/members", headers=plain).json() == "welcome, alice"
        assert [status("/members", each) for each in (None, bearer("x"))] == [401, 401]
        other = bearer(http.post(f"{server.url}/login").json()["access_token"])
        assert [status("/sign-out", other, "POST") for _ in range(2)] == [200, 200]
        assert [status("/sign-out", each, "POST") for each in (None, bearer("x"))] == [401, 401]
        assert status("/weather", other) == 401
        assert status("/logout", plain, "POST") == 200
        assert status("/weather", plain) == 401


def test_keys(tmp_path: Path) -> None:
    """A page's reader would be left without a key, or with one that nothing accepts."""
    secret, pair = blocks("keys", "sh")
    (program,) = blocks("keys", "python")
    # What the variables name is used first, and then the program's own settings.
    use = "from revokebus import RevokeBus, Settings\nfrom os import environ\n"
    for name in ("PRIVATE", "SECRET"):
        others = "SECRET" if name == "PRIVATE" else "PRIVATE"
        use += f"held = environ.pop('REVOKEBUS_{others}_KEY')\n"
        use += "print(RevokeBus(Settings(redis_url='memory://')).issue('a').session_id)\n"
        use += f"environ['REVOKEBUS_{others}_KEY'] = held\n"
    use += "del environ['REVOKEBUS_SECRET_KEY'], environ['REVOKEBUS_PRIVATE_KEY']\n"
    use += program + "print(bus.issue('alice').session_id)\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", f'{secret}{pair}python -c "$PROGRAM"\n'],
        cwd=tmp_path,
        env={"PATH": path, "PROGRAM": use},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 3


def test_oauth_endpoints(serve: Any, http: httpx2.Client) -> None:
    """A page's reader would offer an endpoint that no OAuth client can use."""
    (commands,) = blocks("oauth-endpoints", "sh")
    with serve("oauth-endpoints") as server:
        token = http.post(f"{server.url}/login").json()["access_token"]
        revoke, introspect = (
            line.replace("localhost:8000", server.url).replace("curl", "curl -sf")
            for line in commands.splitlines()
        )
        for command, answer in (
            (introspect, '"active":true'),
            (revoke, ""),
            (introspect, '{"active":false}'),
            (revoke, ""),
        ):
            done = subprocess.run(
                ["bash", "-euc", command],
                env={**os.environ, "TOKEN": token, "no_proxy": "*"},
                capture_output=True,
                text=True,
                check=True,
            )
            assert answer in done.stdout
