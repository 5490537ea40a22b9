"""A backend of the shape of FastAPI's full-stack template, before RevokeBus and with it."""

from __future__ import annotations

import difflib
import re
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from revokebus.testing import AppServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"
BOTH = ["backend_before", "backend_after"]
ADMIN = "admin@example.com", "changethis"


@pytest.fixture(params=BOTH)
def api(request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    with _serving(request.param) as client:
        yield client


@pytest.fixture
def ported() -> Iterator[httpx2.Client]:
    with _serving("backend_after") as client:
        yield client


@contextmanager
def _serving(name: str) -> Iterator[httpx2.Client]:
    key = secrets.token_urlsafe(64)
    environment = {"BACKEND_SECRET_KEY": key, "REVOKEBUS_REDIS_URL": "memory://"}
    with (
        AppServer(f"tests.programs.{name}.main:app", environment) as server,
        httpx2.Client(base_url=server.url, timeout=10) as client,
    ):
        yield client


def sign_in(api: httpx2.Client, email: str = ADMIN[0], password: str = ADMIN[1]) -> dict[str, str]:
    form = {"username": email, "password": password}
    answer = api.post("/login/access-token", data=form).raise_for_status().json()
    assert answer["token_type"] == "bearer"
    return {"Authorization": f"Bearer {answer['access_token']}"}


def sign_up(api: httpx2.Client, email: str = "alice@example.com") -> dict[str, Any]:
    body = {"email": email, "password": "wonderland"}
    user: dict[str, Any] = api.post("/users/signup", json=body).raise_for_status().json()
    return user


def status(api: httpx2.Client, headers: dict[str, str], path: str = "/users/me") -> int:
    return api.get(path, headers=headers).status_code


def change_password(
    api: httpx2.Client, headers: dict[str, str], current: str, new: str
) -> httpx2.Response:
    body = {"current_password": current, "new_password": new}
    return api.patch("/users/me/password", json=body, headers=headers)


def test_what_the_backend_did_it_does(api: httpx2.Client) -> None:
    """Moving over would break what users and pages rely on."""
    user = sign_up(api)
    assert api.post("/users/signup", json={"email": user["email"], "password": "x"}).is_error
    for email, password in (("alice@example.com", "wrong"), ("nobody@example.com", "x")):
        form = {"username": email, "password": password}
        assert api.post("/login/access-token", data=form).status_code == 400
    alice, admin = sign_in(api, "alice@example.com", "wonderland"), sign_in(api)
    assert api.get("/users/me", headers=alice).json() == user
    assert api.post("/login/test-token", headers=alice).json() == user
    assert status(api, alice, "/users/") == 403
    assert {each["email"] for each in api.get("/users/", headers=admin).json()} == {
        "alice@example.com",
        "admin@example.com",
    }
    assert change_password(api, alice, "wrong", "new").status_code == 400
    assert change_password(api, alice, "wonderland", "new").status_code == 200
    assert status(api, alice) == 200  # who changes a password stays signed in
    again = sign_in(api, "alice@example.com", "new")
    assert status(api, {}) == 401
    assert status(api, {"Authorization": "Bearer x.y.z"}) in (401, 403)
    api.patch(f"/users/{user['id']}", params={"is_active": False}, headers=admin)
    assert status(api, again) in (400, 401)
    assert api.patch(f"/users/{user['id']}", params={"is_active": True}, headers=admin).is_success
    last = sign_in(api, "alice@example.com", "new")
    assert api.request("DELETE", "/users/me", headers=last).is_success
    assert status(api, last) in (404, 401)


def test_a_password_change_ends_all_other_sessions(ported: httpx2.Client) -> None:
    """The reason to move over would not hold."""
    sign_up(ported)
    mine, thief = (sign_in(ported, "alice@example.com", "wonderland") for _ in range(2))
    assert change_password(ported, mine, "wonderland", "new").status_code == 200
    assert (status(ported, mine), status(ported, thief)) == (200, 401)


def test_who_signs_out_is_out(ported: httpx2.Client) -> None:
    """A token would work for eight days after the log-out."""
    admin, other = sign_in(ported), sign_in(ported)
    assert ported.post("/logout", headers=admin).is_success
    assert (status(ported, admin), status(ported, other)) == (401, 200)


def test_who_is_made_inactive_stays_out(ported: httpx2.Client) -> None:
    """The tokens from before would work again, once the account does."""
    user, admin = sign_up(ported), sign_in(ported)
    alice = sign_in(ported, "alice@example.com", "wonderland")
    for is_active in (False, True):
        path = f"/users/{user['id']}"
        ported.patch(path, params={"is_active": is_active}, headers=admin).raise_for_status()
    assert status(ported, alice) == 401


def test_the_page_says_how_much_has_changed() -> None:
    """Whoever plans the move would plan for something else."""
    before, after = ({each.name: each for each in (PROGRAMS / name).glob("*.py")} for name in BOTH)
    assert set(before) == set(after)
    added = removed = files = 0
    for name in sorted(set(before) - {"__init__.py"}):
        old, new = (each[name].read_text().splitlines() for each in (before, after))
        lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
        added += sum(line.startswith("+") for line in lines)
        removed += sum(line.startswith("-") for line in lines)
        files += bool(lines)
    page = (ROOT / "docs" / "moving-over.md").read_text()
    told = re.search(r"(\d+) files, (\d+) lines added and (\d+) removed", page)
    assert told is not None
    assert tuple(map(int, told.groups())) == (files, added, removed)
