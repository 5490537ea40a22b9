"""The command ``revokebus``, on a real server, with real instances beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import redis
from typer.testing import CliRunner

from revokebus import Settings
from revokebus.cli import connect, output
from revokebus.cli.commands import app
from revokebus.clock import SystemClock
from revokebus.protocol.wire import encode_payload
from revokebus.results import Confirmation, Receipt
from revokebus.store.writes import Writes
from revokebus.testing import AppServer, ClusterServers, RedisServer
from revokebus.testing.redis_server import embedded_valkey, follows
from tests.support import SECRET, make_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

    from revokebus.protocol.revocation import Revocation
    from revokebus.tokens.issuer import TokenPair

PASSWORD = "the-redis-password"


@pytest.fixture(scope="module")
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


@pytest.fixture(autouse=True)
def environment(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", redis_server.url)
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> TokenPair:
    """The tokens of somebody who is signed in, whose key the command has, too."""
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", SECRET)
    return make_issuer(Settings(), SystemClock()).issue("alice")


@pytest.fixture
def instance(redis_server: RedisServer) -> Iterator[AppServer]:
    """An application that accepts these tokens."""
    settings = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis_server.url}
    server = AppServer("revokebus.demo.app:app", settings)
    server.start()
    wait_for_instances(1)
    yield server
    server.stop()


def states() -> list[str]:
    return [each["state"] for each in json.loads(run("status", "--json").stdout)]


def wait_for_instances(count: int) -> None:
    deadline = time.monotonic() + 10
    while [each["state"] for each in json.loads(run("status", "--json").stdout)] != [
        "fresh"
    ] * count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_a_wrong_namespace_is_no_confirmation(pair: TokenPair) -> None:
    """A slip in a variable would look like a log-out that everybody has."""
    result = run("revoke", "--json", given=pair.access_token)
    assert result.exit_code == connect.REFUSED
    assert "none has the namespace" in result.stderr
    assert not json.loads(result.stdout)["is_confirmed"]
    assert run("revoke", "--jti", pair.access_token).exit_code == connect.USAGE


def told(command: str, *arguments: str, given: str | None = None, status: int = 0) -> Any:
    result = run(command, "--json", *arguments, given=given)
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def jti_of(token: str) -> str:
    jti: str = jwt.decode(token, options={"verify_signature": False})["jti"]
    return jti


def test_a_token_that_is_piped_in_is_revoked_everywhere(
    pair: TokenPair, instance: AppServer
) -> None:
    """Whoever finds a token in a log could not take it back."""
    import httpx2  # noqa: PLC0415

    header = {"Authorization": f"Bearer {pair.access_token}"}
    assert httpx2.get(f"{instance.url}/protected", headers=header).status_code == 200
    assert told("check", given=pair.access_token)["verdict"] == "valid"
    receipt = told("revoke", given=pair.access_token)
    assert [(each["pid"], each["outcome"]) for each in receipt["confirmations"]] == [
        (instance.pid, "applied")
    ]
    assert receipt["is_confirmed"]
    assert httpx2.get(f"{instance.url}/protected", headers=header).status_code == 401
    assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"
    assert told("check", "--", jti_of(pair.access_token), status=1)["verdict"] == "revoked"
    assert told("check", "--", jti_of(pair.refresh_token), status=1)["verdict"] == "no record"


def test_a_token_by_its_id(pair: TokenPair) -> None:
    """An id in a log would be of no use without the token."""
    assert told("revoke", "--no-confirm", "--jti", jti_of(pair.access_token))["revocations"] == 1
    assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"


@pytest.mark.parametrize(
    "command",
    [
        ["revoke-session", "{sid}"],
        ["revoke-subject", "alice"],
        ["revoke-subject", "alice", "--keep", "another"],
        ["revoke-all", "--yes"],
    ],
)
def test_every_way_of_revoking(pair: TokenPair, command: list[str]) -> None:
    """A command of the documentation would not do what its name says."""
    words = [word.format(sid=pair.session_id) for word in command]
    nothing = told(*words, "--dry-run")
    assert (nothing["revocations"], nothing["position"]) == (0, None)
    assert told("check", given=pair.access_token)["verdict"] == "valid"
    old = [*words, "--no-confirm", "--issued-before", "2020-01-01T00:00:00Z"]
    assert told(*old)["revocations"] == 1
    assert told("check", given=pair.access_token)["verdict"] == "valid"
    assert told(*words, "--no-confirm")["confirmations"] is None
    assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"


def test_one_session_can_be_kept(pair: TokenPair) -> None:
    """An operator who signs a user out everywhere else would sign him out here, too."""
    told("revoke-subject", "alice", "--keep", pair.session_id, "--no-confirm")
    assert told("check", given=pair.access_token)["verdict"] == "valid"
    told("revoke-subject", "alice", "--no-confirm")
    assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"


def test_everybody_is_signed_out_only_by_whoever_is_sure(pair: TokenPair) -> None:
    """A slip on the command line would sign every user out."""
    assert run("revoke-all", given="n\n").exit_code == 1
    assert told("check", given=pair.access_token)["verdict"] == "valid"
    assert run("revoke-all", "--no-confirm", given="y\n").exit_code == 0
    assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"


def test_a_bad_and_an_expired_token_are_told_apart(
    pair: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator would look for a revocation where there is none."""
    foreign = jwt.encode({"sub": "alice"}, "k" * 64)
    told_of_it = told("check", given=foreign, status=1)
    assert told_of_it == {"verdict": "invalid", "reason": "no key verifies its signature"}
    assert told("check", given=pair.access_token + "x", status=1)["verdict"] == "invalid"
    claims = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"])
    old = jwt.encode({**claims, "iat": 1000, "auth_time": 1000, "exp": 1060}, SECRET)
    assert told("check", given=old, status=1)["verdict"] == "Token has expired"
    monkeypatch.delenv("REVOKEBUS_SECRET_KEY")
    assert run("check", given=pair.access_token).exit_code == connect.USAGE  # by which key?


def test_without_a_key_everything_else_can_be_done() -> None:
    """Whoever operates Redis would have to be given the key that signs tokens."""
    assert told("revoke-subject", "alice", "--no-confirm")["revocations"] == 1
    assert told("doctor", status=1)


def test_a_token_in_the_arguments_is_refused(pair: TokenPair) -> None:
    """Every user of the machine could read it in the list of processes."""
    result = run("check", pair.access_token)
    assert result.exit_code == connect.USAGE
    assert "pipe it" in result.output
    assert pair.access_token not in result.output


def test_status_shows_each_instance(instance: AppServer) -> None:
    """Nobody could see from a terminal which instance hangs."""
    (one,) = told("status")
    assert (one["pid"], one["state"], one["is_silent"]) == (instance.pid, "fresh", False)
    assert str(instance.pid) in run("status").stdout
    instance.kill()
    deadline = time.monotonic() + 10
    while run("status").exit_code == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert json.loads(run("status", "--json").stdout)[0]["is_silent"]
    assert "silent" in run("status").stdout


def test_no_instance_is_said() -> None:
    """A wrong namespace would look like a fleet in which all is well."""
    result = run("status")
    assert result.exit_code == connect.REFUSED
    assert "REVOKEBUS_NAMESPACE" in result.output


def test_watch_prints_what_is_revoked(pair: TokenPair) -> None:
    """An operator could not see whether a log-out arrives."""
    command = [sys.executable, "-m", "revokebus.cli", "watch", "--count", "2", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "watching" in process.stderr.readline()
        told("revoke-subject", "bob", "--no-confirm")
        told("revoke", "--no-confirm", given=pair.access_token)
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert process.wait(10) == 0
    assert [(each["claim"], each["value"]) for each in seen] == [
        ("sub", "bob"),
        ("jti", jti_of(pair.access_token)),
    ]


def test_a_moment_beyond_the_calendar_is_shown() -> None:
    """One message of a stranger would end the watch."""
    assert output.moment(253_402_300_800.0) == "9999-12-31T23:59:59.000Z"


def test_watch_ends_with_control_c() -> None:
    """It would end with a traceback."""
    command = [sys.executable, "-m", "revokebus.cli", "watch"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()


def test_a_value_cannot_write_to_the_terminal() -> None:
    """A user's name could move the cursor, or hide what stands above it."""
    command = [sys.executable, "-m", "revokebus.cli", "watch", "--count", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        told("revoke-subject", "[bold]\x1b[2J", "--no-confirm")
        line = process.stdout.readline()
    assert "\x1b" not in line
    assert "[bold]" in line


def test_what_is_exported_can_be_imported(
    pair: TokenPair,
    tmp_path: Path,
    redis_binary: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A move to another Redis would make revoked tokens valid."""
    told("revoke", "--no-confirm", given=pair.access_token)
    told("revoke-subject", "bob", "--keep", "a session of bob", "--no-confirm")
    told("revoke-all", "--yes", "--no-confirm", "--issued-before", "2020-01-01T00:00:00Z")
    file = tmp_path / "revocations.jsonl"
    assert told("export", "--output", str(file)) == {"exported": 3}
    assert run("export", "--output", str(file)).exit_code == connect.USAGE  # it exists
    lines = file.read_text()
    assert sorted(json.loads(line)["claim"] for line in lines.splitlines()) == [
        "jti",
        "revokebus:everything",
        "sub",
    ]
    assert sorted(run("export").stdout.splitlines()) == sorted(lines.splitlines())
    with RedisServer(redis_binary) as other:
        monkeypatch.setenv("REVOKEBUS_REDIS_URL", other.url)
        assert told("import", str(file)) == {"imported": 3}
        assert told("import", given=lines) == {"imported": 3}  # once more changes nothing
        assert told("check", given=pair.access_token, status=1)["verdict"] == "revoked"
        with other.client() as client:
            while client.exists("{revokebus}:hold"):  # a new Redis is not exported from at once
                time.sleep(0.05)
        assert sorted(run("export").stdout.splitlines()) == sorted(lines.splitlines())


def test_a_running_instance_learns_what_is_imported(instance: AppServer, pair: TokenPair) -> None:
    """After a move the instances would go on accepting what was revoked before."""
    import httpx2  # noqa: PLC0415

    line: dict[str, Any] = {"iss": "", "claim": "jti", "value": jti_of(pair.access_token)}
    line |= {"expires_at": time.time() + 60, "issued_before": None}
    told("import", given=json.dumps(line))
    header = {"Authorization": f"Bearer {pair.access_token}"}
    deadline = time.monotonic() + 10
    while httpx2.get(f"{instance.url}/protected", headers=header).status_code != 401:
        assert time.monotonic() < deadline


def test_a_denylist_of_another_library_is_taken_over(
    redis_binary: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was revoked before the move would become valid."""
    revoked = [str(uuid.uuid4()) for _ in range(1200)]
    forever, pardoned, other = (str(uuid.uuid4()) for _ in range(3))
    with RedisServer(redis_binary) as server, server.client() as old:
        pipe = old.pipeline(transaction=False)
        for jti in revoked:
            pipe.set(jti, "true", ex=600)
        pipe.set(forever, "true").set(pardoned, "false", ex=600)
        pipe.lpush(other, "true").set("session:1", "true").set(b"\xff" * 36, "true")
        pipe.execute()
        monkeypatch.setenv("OLD_REDIS_URL", server.url)
        result = run("import-jtis", "--json")
        assert json.loads(result.stdout) == {"imported": 1201}
        assert "2 keys look like ids" in result.stderr
        assert told("import-jtis") == {"imported": 1201}  # once more changes nothing
        assert old.dbsize() == 1205
        for jti in (*revoked[::100], forever):
            assert told("check", jti, status=1)["verdict"] == "revoked"
        for jti in (pardoned, other):
            assert told("check", jti, status=1)["verdict"] == "no record"
        assert 500 < client.ttl(f"{{revokebus}}:r:jti:{revoked[0]}") < 700
        assert client.ttl(f"{{revokebus}}:r:jti:{forever}") > 30 * 86_400
        for right in ("get", "pttl", "scan"):  # an error is no key that holds something else
            rules: dict[str, Any] = {"enabled": True, "passwords": ["+pw"], "keys": ["*"]}
            old.acl_setuser("limited", commands=["+@all", f"-{right}"], **rules)
            limited = server.url.replace("redis://", "redis://limited:pw@")
            monkeypatch.setenv("OLD_REDIS_URL", limited)
            result = run("import-jtis")
            assert result.exit_code == connect.UNAVAILABLE
            assert "OLD_REDIS_URL" in result.output
        monkeypatch.setenv("OLD_REDIS_URL", f"{server.url.removesuffix('/0')}/1")
        assert run("import-jtis").exit_code == connect.REFUSED  # there is nothing
        monkeypatch.setenv("OLD_REDIS_URL", server.url)
        old.set("deny[*]:abc", "1", ex=60)
        with_prefix = ["--prefix", "deny[*]:", "--pattern", "*", "--value", "*"]
        assert told("import-jtis", *with_prefix, "--issuer", "https://idp.example") == {
            "imported": 1
        }
        assert client.exists("{revokebus}:r:jti@https%3A%2F%2Fidp.example:abc")
    result = run("import-jtis")  # the old one is away
    assert result.exit_code == connect.UNAVAILABLE
    assert "OLD_REDIS_URL" in result.output
    for url in ("http://:{}@host", "redis://:{}/0#@host/0", "redis://:top\u2100{}@host/0"):
        monkeypatch.setenv("OLD_REDIS_URL", url.format(PASSWORD))
        result = run("import-jtis")
        assert result.exit_code in (connect.USAGE, connect.UNAVAILABLE)
        assert PASSWORD not in result.output


def test_a_denylist_in_a_cluster_is_taken_over_whole(
    redis_binary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node has a part only, and the rest would become valid."""
    with ClusterServers(redis_binary) as servers:
        client = redis.RedisCluster(host="127.0.0.1", port=servers.nodes[0].address[1])
        for _ in range(60):
            client.set(str(uuid.uuid4()), "true", ex=60)
        client.close()
        monkeypatch.setenv("OLD_REDIS_URL", servers.nodes[0].url)
        assert told("import-jtis") == {"imported": 60}


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"iss":"","claim":"jti","value":null,"expires_at":1e9,"issued_before":null}',
        '{"iss":"","claim":"jti","value":"a","expires_at":"soon","issued_before":null}',
        "[" * 100_000,
    ],
)
def test_a_file_with_one_bad_line_changes_nothing(line: str) -> None:
    """Half of a backup would be taken for all of it."""
    good = {"iss": "", "claim": "jti", "value": "a", "expires_at": time.time() + 60}
    result = run("import", given=f"{json.dumps({**good, 'issued_before': None})}\n\n{line}\n")
    assert result.exit_code == connect.USAGE
    assert "line 3" in result.output
    assert run("export").stdout == ""


def test_what_has_expired_is_not_imported() -> None:
    """An old backup would fill the log with what refuses nothing."""
    old = {"iss": "", "claim": "jti", "value": "a", "expires_at": 1e9, "issued_before": None}
    assert told("import", given=json.dumps(old)) == {"imported": 0}


def test_strangers_records_are_not_exported(client: redis.Redis) -> None:
    """A foreign key under our prefix would end the export."""
    client.set("{revokebus}:r:jti:x", b"\xff")
    client.lpush("{revokebus}:r:jti:y", "z")
    client.set("{revokebus}:r:jti:z", encode_payload([]))
    result = run("export")
    assert result.stdout == ""
    assert result.exit_code == connect.REFUSED
    assert "2 records are left out" in result.stderr


def test_an_export_is_whole_or_is_not(
    client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the revocations would be taken for a backup of all of them."""
    file = tmp_path / "revocations.jsonl"
    told("revoke-subject", "alice", "--no-confirm")
    client.set("{revokebus}:repair", "1", px=5000)  # another one writes back what Redis has lost
    result = run("export", "--output", str(file))
    assert result.exit_code == connect.UNAVAILABLE
    assert "writing back" in result.stderr
    client.delete("{revokebus}:repair")

    def lose_all(revocation: Revocation) -> dict[str, Any]:
        client.hset("{revokebus}:meta", "epoch", "another")
        return output.as_dict(revocation)

    monkeypatch.setattr("revokebus.cli.transfer.as_dict", lose_all)
    assert run("export", "--output", str(file)).exit_code == connect.UNAVAILABLE
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("REVOKEBUS_NAMESPACE", "misspelt")
    result = run("export", "--output", str(file))
    assert "nothing has the namespace misspelt" in result.stderr
    assert result.exit_code == connect.UNAVAILABLE


@pytest.mark.parametrize("command", ["status", "doctor", "watch", "export", "revoke-subject alice"])
def test_a_redis_that_is_away_is_said_without_its_password(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback with the password would end in a ticket."""
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", f"redis://:{PASSWORD}@127.0.0.1:1/0")
    monkeypatch.setenv("REVOKEBUS_STARTUP_TIMEOUT", "0.2")
    result = run(*command.split())
    assert result.exit_code == connect.UNAVAILABLE
    assert "REVOKEBUS_REDIS_URL" in result.output
    assert PASSWORD not in result.output
    assert "Traceback" not in result.output


def test_a_wrong_setting_is_said_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is too short would be printed."""
    monkeypatch.setenv("REVOKEBUS_SECRET_KEY", "too-short-a-key")
    result = run("check", given="x")
    assert result.exit_code == connect.USAGE
    assert "REVOKEBUS_SECRET_KEY" in result.output
    assert "too-short-a-key" not in result.output


def test_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation would be acknowledged by nobody but the command itself."""
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", "memory://")
    assert run("revoke-subject", "alice").exit_code == connect.USAGE


def test_settings_come_from_a_file(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, pair: TokenPair
) -> None:
    """A password would have to stand in the shell's history."""
    file = tmp_path / "operator.env"
    file.write_text(f"REVOKEBUS_REDIS_URL={redis_server.url}\nREVOKEBUS_SECRET_KEY={SECRET}\n")
    monkeypatch.delenv("REVOKEBUS_REDIS_URL")
    monkeypatch.delenv("REVOKEBUS_SECRET_KEY")
    assert told("check", "--env-file", str(file), given=pair.access_token)["verdict"] == "valid"


@pytest.mark.usefixtures("instance")
def test_what_is_revoked_from_a_terminal_lives_as_long_as_the_longest_token_of_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would expire before the token, which then works again."""
    monkeypatch.setenv("REVOKEBUS_REFRESH_TTL", "3600")
    result = run("revoke-subject", "alice")
    assert result.exit_code == 0
    assert "refresh_ttl" in result.output
    (line,) = [each for each in run("export").stdout.splitlines() if "alice" in each]
    assert json.loads(line)["expires_at"] > time.time() + 29 * 86_400


@pytest.mark.usefixtures("instance")
@pytest.mark.parametrize(
    ("name", "value"),
    [("REVOKEBUS_ISSUER", "https://other.example"), ("REVOKEBUS_REVOCABLE_CLAIMS", "tenant")],
)
def test_a_command_that_is_set_up_otherwise_than_the_fleet_revokes_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It would report success, and no token of the fleet would be meant."""
    monkeypatch.setenv(name, value)
    result = run("revoke-subject", "alice")
    assert result.exit_code == connect.USAGE
    assert name in result.output
    monkeypatch.delenv(name)
    assert run("export").stdout == ""


@pytest.mark.usefixtures("instance")
def test_a_jti_is_revoked_whenever_its_token_was_issued() -> None:
    """A token of an instance whose clock is ahead would survive, with exit status 0."""
    told("revoke", "--jti", "some-id")
    (line,) = [each for each in run("export").stdout.splitlines() if "some-id" in each]
    assert json.loads(line)["issued_before"] is None


def test_an_instance_that_does_not_answer_is_an_error(instance: AppServer) -> None:
    """A script would go on although a hung instance still accepts the token."""
    instance.freeze()
    receipt = told("revoke-subject", "alice", "--timeout", "0.2", status=1)
    instance.thaw()
    assert [each["outcome"] for each in receipt["confirmations"]] == ["silent"]


def test_a_receipt_for_people() -> None:
    """Whoever reads it could not tell which instance is meant."""
    confirmations = tuple(Confirmation(str(n), f"host{n}", n, "applied", 0.0123) for n in range(2))
    with output.console.capture() as captured:
        output.print_receipt(Receipt(1, "5-0", confirmations=confirmations), own="1", as_json=False)
    assert "Recorded at 5-0" in captured.get()
    assert "12.3 ms" in captured.get()
    assert "host1" not in captured.get()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """``pip install revokebus`` would leave a command that ends in a traceback."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "revokebus.cli"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "revokebus[cli]" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_id_of_an_outside_issuer(pair: TokenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record would stand under our own name, and refuse nothing."""
    idp = {"issuer": "https://idp.example", "jwks_url": "https://idp.example/jwks"}
    issuers = [{**idp, "audience": "api"}]
    monkeypatch.setenv("REVOKEBUS_ISSUERS", json.dumps(issuers))
    monkeypatch.setenv("REVOKEBUS_STARTUP_TIMEOUT", "1")
    of = ["--issuer", "https://idp.example"]
    told("revoke", "--no-confirm", "--jti", "j", *of)
    assert told("check", "j", *of, status=1)["verdict"] == "revoked"
    assert told("check", "j", status=1)["verdict"] == "no record"
    assert run("revoke", *of, given=pair.access_token).exit_code == connect.USAGE


def test_an_export_has_what_was_evicted(
    client: redis.Redis, pair: TokenPair, tmp_path: Path
) -> None:
    """A backup of a Redis that evicts would lack what the instances still refuse."""
    file = tmp_path / "revocations.jsonl"
    told("revoke", "--no-confirm", given=pair.access_token)
    client.config_set("maxmemory-policy", "volatile-lru")
    client.delete(f"{{revokebus}}:r:jti:{jti_of(pair.access_token)}")
    assert told("export", "--output", str(file)) == {"exported": 1}
    assert json.loads(file.read_text())["value"] == jti_of(pair.access_token)


@pytest.mark.usefixtures("instance")
def test_an_expired_and_a_foreign_token_are_not_revoked(pair: TokenPair) -> None:
    """A script would take them for an outage, or for a namespace without instances."""
    claims = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"])
    old = jwt.encode({**claims, "iat": 1000, "auth_time": 1000, "exp": 1060}, SECRET)
    result = run("revoke", given=old)
    assert result.exit_code == 0
    assert "expired" in result.stderr
    assert "Recorded" not in result.stdout
    assert run("revoke", given=jwt.encode(claims, "k" * 64)).exit_code == connect.USAGE


def test_an_import_is_not_divided_by_a_loss(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would report what Redis has lost meanwhile."""
    write = Writes.write

    async def lose_it(writes: Writes, *arguments: Any) -> Any:
        written = await write(writes, *arguments)
        client.flushall()
        return written

    monkeypatch.setattr(Writes, "write", lose_it)
    lines = "\n".join(json.dumps(line_of(f"{number:04}")) for number in range(1200))
    result = run("import", given=lines)
    assert result.exit_code == connect.UNAVAILABLE
    assert "imported" not in result.output


@pytest.mark.usefixtures("instance")
def test_another_setting_than_the_fleet_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record under a name that nobody looks up would look like a log-out."""
    monkeypatch.setenv("REVOKEBUS_ISSUER", "https://auth.example")
    result = run("revoke-subject", "alice")
    assert "REVOKEBUS_ISSUER" in result.stderr
    assert findings()["alike"]["level"] == "warning"


def test_an_id_alone_is_no_all_clear(pair: TokenPair) -> None:
    """A token whose user was signed out would be reported as good."""
    told("revoke-subject", "alice", "--no-confirm")
    assert run("check", jti_of(pair.access_token)).exit_code == connect.REFUSED
    assert "pipe in the token" in run("check", jti_of(pair.access_token)).output
    assert run("check", "").exit_code == connect.USAGE  # an unset variable of a script


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("status", {"REVOKEBUS_ISSUERS": "hunter2"}),
        ("status", {"REVOKEBUS_COOKIES": "hunter2"}),
        ("status --env-file /bin/true", {}),
        ("status > /dev/full", {}),
        ("export --output /nowhere/x", {}),
        ("export > /dev/full", {}),
        ("import .", {}),
    ],
)
def test_what_cannot_be_is_said_in_a_line(command: str, variables: dict[str, str]) -> None:
    """An operator would read a traceback, and a script take it for an answer."""
    told("revoke-subject", "alice", "--no-confirm")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m revokebus.cli {command}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == connect.USAGE, done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert "exported" not in done.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    """``revokebus export | head`` would end with a traceback."""
    for number in range(300):
        told("import", given=json.dumps(line_of(f"{number:04}")))
    command = f"{sys.executable} -m revokebus.cli export | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def line_of(jti: str) -> dict[str, object]:
    line = {"iss": "", "claim": "jti", "value": jti, "expires_at": time.time() + 60}
    return {**line, "issued_before": None}


def test_a_misspelt_variable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator would believe that it was read."""
    monkeypatch.setenv("REVOKEBUS_MAX_STALENES", "5")
    assert "REVOKEBUS_MAX_STALENES" in run("doctor").output


@pytest.mark.parametrize("wrong", ["yesterday", "2020-13-01", "2020-01-01T00:00:00"])
def test_a_moment_that_is_none_is_said(wrong: str) -> None:
    """A typing error would revoke everything, or end in a traceback."""
    result = run("revoke-all", "--yes", "--issued-before", wrong)
    assert result.exit_code == connect.USAGE
    assert run("export").stdout == ""


def findings(*, status: int = 1) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in told("doctor", status=status)}


def plant_eviction(client: redis.Redis, _patch: pytest.MonkeyPatch) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")


def plant_loss(client: redis.Redis, _patch: pytest.MonkeyPatch) -> None:
    client.config_set("appendonly", "no")
    client.config_set("save", "")


def plant_missing_right(client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
    rules: dict[str, Any] = {"enabled": True, "passwords": [f"+{PASSWORD}"], "keys": ["*"]}
    client.acl_setuser("limited", channels=["*"], commands=["+@all", "-publish"], **rules)
    url = os.environ["REVOKEBUS_REDIS_URL"]
    patch.setenv("REVOKEBUS_REDIS_URL", url.replace("redis://", f"redis://limited:{PASSWORD}@"))


class Ahead(SystemClock):
    """A machine whose clock is a minute ahead of Redis's."""

    def wall(self) -> float:
        return time.time() + 60


def plant_skew(_client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("revokebus.cli.status.SystemClock", Ahead)


def plant_short_retention(_client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("REVOKEBUS_LOG_RETENTION", "3600")


def plant_missing_replica(_client: redis.Redis, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("REVOKEBUS_MIN_REPLICAS", "1")


@pytest.mark.parametrize(
    ("plant", "check", "level", "word"),
    [
        (plant_eviction, "eviction", "refused", "noeviction"),
        (plant_loss, "persistence", "warning", "appendonly"),
        (plant_missing_right, "rights", "warning", "+publish"),
        (plant_skew, "clock", "warning", "NTP"),
        (plant_short_retention, "retention", "warning", "REVOKEBUS_LOG_RETENTION"),
        (plant_missing_replica, "replicas", "warning", "NotReplicatedError"),
    ],
)
def test_the_doctor_finds_what_was_planted(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    plant: Any,
    check: str,
    level: str,
    word: str,
) -> None:
    """A fleet would be operated on what loses revocations, and nobody be told."""
    client.config_set("appendonly", "yes")
    before = findings()
    assert {each for each in before if before[each]["level"] != "ok"} == {"replicas"}
    plant(client, monkeypatch)
    found = findings()
    assert found[check]["level"] == level
    assert word in found[check]["message"] + found[check]["remedy"]
    assert found[check]["remedy"]
    shown = run("doctor").output
    assert found[check]["remedy"].split()[0] in shown
    assert PASSWORD not in shown


def test_the_doctor_is_content_with_what_is_well(redis_binary: str) -> None:
    """A script that watches would always be alarmed."""
    options = {"appendonly": "yes"}
    with RedisServer(redis_binary, options) as primary:
        host, port = primary.address
        replica = RedisServer(redis_binary, {"replicaof": f"{host} {port}"})
        with replica, pytest.MonkeyPatch.context() as patch, primary.client() as client:
            patch.setenv("REVOKEBUS_REDIS_URL", primary.url)
            client.config_set("min-replicas-to-write", 1)
            client.config_set("min-replicas-max-lag", 5)
            while not follows(replica):
                time.sleep(0.05)
            assert {each["level"] for each in findings(status=0).values()} == {"ok"}


def commands_of(page: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if "revokebus " in line and " demo" not in line]  # test_demo.py


LOSES_ONE = """
import asyncio, signal
from revokebus.cli.connect import perform

async def work():
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()  # as redis-py may, before Python 3.12

perform(work())
"""


def test_an_interruption_is_not_lost() -> None:
    """Ctrl-C would now and then do nothing, and a script that ends `watch` hang."""
    done = subprocess.run(
        [sys.executable, "-c", LOSES_ONE], timeout=30, check=False, capture_output=True, text=True
    )
    assert done.stderr.strip().endswith("exceptions.Exit: 130"), done.stderr


@pytest.mark.usefixtures("instance")
@pytest.mark.parametrize(("page", "count"), [("command-line.md", 16), ("operating.md", 4)])
def test_every_command_of_the_page_works(
    pair: TokenPair, tmp_path: Path, page: str, count: int
) -> None:
    """An operator would copy a command that does not exist, during an incident."""
    (tmp_path / "token.txt").write_text(pair.access_token)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    commands = commands_of(page)
    assert len(commands) == count
    with RedisServer() as other, other.client() as client:
        # What other libraries would have left there.
        client.mset({str(uuid.uuid4()): "true", "blocklist:a": "1"})
        for command in commands:
            words = command.replace("redis://new:6379/0", other.url)
            words = words.replace("redis://old:6379/0", other.url)
            if " watch" in words:
                words = f"timeout --signal INT 2 {words.partition('#')[0]}"
            done = subprocess.run(
                ["bash", "-c", words],
                cwd=tmp_path,
                env=environment,
                input="y\n",
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            refused = "doctor", "check"  # of what has no replica, and is revoked
            expected = 1 if any(f"revokebus {word}" in command for word in refused) else 0
            expected = 124 if " watch" in command else expected
            assert done.returncode == expected, (command, done.stdout, done.stderr)


def test_a_file_that_is_missing_is_no_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator would look for a fault in the network."""
    url = "rediss://127.0.0.1:1/0?ssl_ca_certs=/nowhere/ca.pem"
    monkeypatch.setenv("REVOKEBUS_REDIS_URL", url)
    result = run("status")
    assert result.exit_code == connect.UNAVAILABLE
    assert "each file that redis_url" in result.output
