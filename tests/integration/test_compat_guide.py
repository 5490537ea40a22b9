"""The guide from fastapi-jwt-auth: each step works, with the tokens of the one before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import jwt
import pytest

from revokebus.testing import AppServer, RedisServer
from revokebus.testing.redis_server import embedded_valkey
from tests.support import SECRET, settle
from tests.unit.compat import test_fastapi_jwt_auth_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "from-fastapi-jwt-auth.md").read_text()
STEPS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^(?:\w+=\S+ )?revokebus .*$", GUIDE, re.MULTILINE)


class User:
    """Somebody who is signed in, at whatever step the service is."""

    def __init__(self, service: AppServer) -> None:
        self.pair = httpx2.post(f"{service.url}/login").raise_for_status().json()

    def may(self, service: AppServer) -> bool:
        answer = httpx2.get(f"{service.url}/me", headers=self._header("access_token"))
        assert answer.status_code in (200, 401), answer.text
        assert answer.status_code == 401 or answer.json() == "alice"
        return answer.status_code == 200

    def refresh(self, service: AppServer) -> int:
        answer = httpx2.post(f"{service.url}/refresh", headers=self._header("refresh_token"))
        self.pair |= answer.json() if answer.is_success else {}
        return answer.status_code

    def sign_out(self, service: AppServer) -> None:
        header = self._header("access_token")
        httpx2.delete(f"{service.url}/logout", headers=header).raise_for_status()

    def _header(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.pair[name]}"}


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AppServer]]:
    """The service at each step, all of them at once, as during deployments."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ExitStack() as stack:
        old, new = (stack.enter_context(RedisServer(embedded_valkey())) for _ in range(2))
        settle(new)
        monkeypatch.setenv("DENYLIST_URL", old.url)
        monkeypatch.setenv("REVOKEBUS_REDIS_URL", new.url)
        environment = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_ROTATION_GRACE": "0"}
        services = []
        for number, program in enumerate(STEPS, start=1):
            (tmp_path / f"step_{number}.py").write_text(program)
            services.append(AppServer(f"step_{number}:app", environment))
            services[-1].start()
            stack.callback(services[-1].stop)
        yield services


def test_each_step_works_with_the_tokens_of_the_one_before(steps: list[AppServer]) -> None:
    """Whoever follows the guide would sign his users out, or let those in who were signed out."""
    assert len(steps) == 5
    gone_before = User(steps[0])
    assert gone_before.may(steps[0])
    gone_before.sign_out(steps[0])
    assert not gone_before.may(steps[0])
    assert not gone_before.may(steps[1])  # it asks the same Redis

    (command,) = COMMANDS
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    subprocess.run(["bash", "-euc", command], env=environment, check=True)
    wait_until_refused(gone_before, steps[1:])

    for before, service in pairwise(steps):
        stays, goes = User(before), User(before)
        assert stays.may(service)
        assert stays.refresh(service) == 200
        assert stays.may(service)
        goes.sign_out(service)
        wait_until_refused(goes, [service])
        if service is steps[1]:  # so that instances of the step before know it, too
            assert not goes.may(before)
    # What step 5 has exchanged, step 4 does not take.
    user = User(steps[3])
    first = dict(user.pair)
    assert user.refresh(steps[4]) == 200
    user.pair = first
    deadline = time.monotonic() + 10
    while user.refresh(steps[3]) != 401:
        user.pair = first
        assert time.monotonic() < deadline
    # A session has ended as a whole, and a refresh token is good once.
    user = User(steps[4])
    first = dict(user.pair)
    assert user.refresh(steps[4]) == 200
    user.pair = first
    assert user.refresh(steps[4]) == 401
    user = User(steps[2])
    user.sign_out(steps[3])
    assert user.refresh(steps[3]) == 401


def wait_until_refused(user: User, services: list[AppServer]) -> None:
    deadline = time.monotonic() + 10
    while any(user.may(each) for each in services):
        assert time.monotonic() < deadline


def test_tokens_of_before_are_refused_by_guards_only(steps: list[AppServer]) -> None:
    """The guide would promise too much, or too little."""
    now = int(time.time())
    claims = {"sub": "alice", "jti": "before", "type": "access", "iat": now, "exp": now + 60}
    user = User(steps[0])
    user.pair["access_token"] = jwt.encode(claims, SECRET)
    assert [user.may(each) for each in steps] == [True, True, True, False, False]


def test_every_difference_has_its_test() -> None:
    """The list would say what nobody has seen."""
    rows = re.findall(r"^\|.*\| `(test_\w+)` \|$", GUIDE, re.MULTILINE)
    defined = {name for name in vars(test_fastapi_jwt_auth_differences) if name.startswith("test_")}
    assert set(rows) == defined
    assert len(rows) == len(defined)
