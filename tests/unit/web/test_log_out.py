"""Sessions are ended by tokens that are worth nothing else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Response
from fastapi.testclient import TestClient

from revokebus import (
    AccessToken,
    EndingSession,
    RefreshToken,
    RevokeBus,
    require_access,
    require_logout,
    require_refresh,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


def make_app(bus: RevokeBus) -> FastAPI:
    app = FastAPI()
    bus.attach(app)

    @app.post("/logout")
    async def logout(
        session: Annotated[EndingSession, Depends(require_logout())], response: Response
    ) -> str:
        await bus.revoke_session(session.session_id, issuer=session.issuer or None)
        bus.clear_cookies(response)
        return session.subject

    @app.post("/leave")
    async def leave(
        session: Annotated[EndingSession | None, Depends(require_logout(optional=True))],
        response: Response,
    ) -> bool:
        if session is not None:
            await bus.revoke_session(session.session_id)
        bus.clear_cookies(response)
        return session is not None

    @app.get("/me")
    async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    @app.post("/refresh")
    async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> str:
        return (await bus.rotate(token)).access_token

    return app


@pytest.fixture
def bus(make_settings: MakeSettings, clock: ManualClock) -> RevokeBus:
    return RevokeBus(make_settings(access_ttl=60, refresh_ttl=1000), clock=clock)


@pytest.fixture
def client(bus: RevokeBus) -> Iterator[TestClient]:
    with TestClient(make_app(bus), base_url="https://app.example") as client:
        yield client


def keep_cookies(client: TestClient, bus: RevokeBus) -> None:
    """Have the client keep what `bus` sets when alice signs in."""
    response = Response()
    bus.set_cookies(response, bus.issue("alice"))
    for each in response.headers.getlist("set-cookie"):
        name, _, value = each.partition(";")[0].partition("=")
        client.cookies.set(name, value, domain="app.example")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("seconds", [0, 120, 2000])
def test_a_token_that_has_expired_ends_its_session(
    client: TestClient, bus: RevokeBus, clock: ManualClock, kind: str, seconds: int
) -> None:
    """Who comes back after a coffee could not sign out, and the next one at the computer is in."""
    pair = bus.issue("alice")
    clock.advance(seconds)
    answer = client.post("/logout", headers=bearer(getattr(pair, kind)))
    assert (answer.status_code, answer.json()) == (200, "alice")
    assert bus.is_revoked({"sid": pair.session_id})
    refused = client.post("/refresh", headers=bearer(pair.refresh_token))
    assert refused.status_code == 401
    again = client.post("/logout", headers=bearer(getattr(pair, kind)))
    assert again.status_code == 200  # a second click


def test_it_opens_nothing_else(client: TestClient, bus: RevokeBus, clock: ManualClock) -> None:
    """An expired token would read what it may not."""
    pair = bus.issue("alice")
    clock.advance(120)
    assert client.get("/me", headers=bearer(pair.access_token)).status_code == 401


@pytest.mark.parametrize("token", ["x", "a.b.c", "", "a.b.c d"])
def test_what_is_not_genuine_ends_nothing(client: TestClient, bus: RevokeBus, token: str) -> None:
    """Anybody could sign others out."""
    header = {"Authorization": f"Bearer {token}"}
    answer = client.post("/logout", headers=header)
    assert answer.status_code == 401
    assert "invalid_token" in answer.headers["www-authenticate"]
    assert client.post("/leave", headers=header).json() is False
    assert client.post("/logout").headers["www-authenticate"] == "Bearer"
    assert client.post("/leave").json() is False
    assert bus.status().entries == 0


def test_a_token_of_another_key_ends_nothing(
    client: TestClient, bus: RevokeBus, make_settings: MakeSettings
) -> None:
    """Whoever can sign tokens of their own could sign others out."""
    other = RevokeBus(make_settings(secret_key=secrets.token_urlsafe(64)))
    forged = bus.issue("alice").access_token.rsplit(".", 1)[0] + "."
    forged += other.issue("alice").access_token.rsplit(".", 1)[1]
    assert client.post("/logout", headers=bearer(forged)).status_code == 401


@pytest.fixture
def cookies(
    make_settings: MakeSettings, clock: ManualClock
) -> Iterator[tuple[TestClient, RevokeBus, str]]:
    bus = RevokeBus(
        make_settings(access_ttl=60, refresh_ttl=1000, token_sources=["cookie"]), clock=clock
    )
    with TestClient(make_app(bus), base_url="https://app.example") as client:
        keep_cookies(client, bus)
        yield client, bus, client.cookies["__Host-csrf_token"]


@pytest.mark.parametrize("left", ["both", "refresh", "expired"])
def test_with_cookies_either_of_them_is_enough(
    cookies: tuple[TestClient, RevokeBus, str], clock: ManualClock, left: str
) -> None:
    """The browser has dropped the access token, and keeps the refresh token for a month."""
    client, bus, csrf = cookies
    if left == "refresh":
        client.cookies.delete("__Host-access_token")
    elif left == "expired":
        clock.advance(120)
    assert client.post("/logout").status_code == 403  # another site could have sent it
    assert bus.status().entries == 0
    answer = client.post("/logout", headers={"X-CSRF-Token": csrf})
    assert answer.json() == "alice"
    assert bus.status().entries == 1
    gone = answer.headers.get_list("set-cookie")
    assert len(gone) == 3
    assert all("Max-Age=0" in each for each in gone)


def test_a_planted_cookie_does_not_keep_a_user_signed_in(
    cookies: tuple[TestClient, RevokeBus, str],
) -> None:
    """A page of a sibling domain could make every log-out fail."""
    client, bus, csrf = cookies
    header = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    client.cookies.clear()
    headers = {"Cookie": f"__Host-access_token=planted; {header}", "X-CSRF-Token": csrf}
    assert client.post("/logout", headers=headers).json() == "alice"
    assert bus.status().entries == 1


def test_a_planted_token_of_another_user_does_not_either(
    cookies: tuple[TestClient, RevokeBus, str],
) -> None:
    """Whoever has an account could plant their own token, and keep others signed in."""
    client, bus, csrf = cookies
    header = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    client.cookies.clear()
    planted = f"__Host-access_token={bus.issue('mallory').access_token}; {header}"
    headers = {"Cookie": planted, "X-CSRF-Token": csrf}
    assert client.post("/logout", headers=headers).json() == "alice"
    assert bus.status().entries == 1


@pytest.mark.parametrize("malformed", ["Bearer", "Bearer ", "Bearer a b"])
def test_a_malformed_header_does_not_hide_a_cookie(
    make_settings: MakeSettings, clock: ManualClock, malformed: str
) -> None:
    """The log-out of a page that writes an empty token would answer 200 and end nothing."""
    settings = make_settings(token_sources=["header", "cookie"])
    bus = RevokeBus(settings, clock=clock)
    with TestClient(make_app(bus), base_url="https://app.example") as client:
        keep_cookies(client, bus)
        headers = {"X-CSRF-Token": client.cookies["__Host-csrf_token"], "Authorization": malformed}
        assert client.post("/leave", headers=headers).json() is True
        assert bus.status().entries == 1


def test_a_link_on_another_site_ends_nothing(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """With a log-out by GET any page could sign its visitors out."""
    bus = RevokeBus(make_settings(token_sources=["cookie"]), clock=clock)
    app = make_app(bus)

    @app.get("/logout")
    async def logout(session: Annotated[EndingSession, Depends(require_logout())]) -> None:
        await bus.revoke_session(session)

    with TestClient(app, base_url="https://app.example") as client:
        client.cookies.set("__Host-access_token", bus.issue("alice").access_token)
        assert client.get("/logout").status_code == 403
        assert bus.status().entries == 0


def test_tokens_of_two_sessions_are_refused(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """It would be left to chance which of two users is signed out."""
    bus = RevokeBus(make_settings(token_sources=["header", "cookie"]), clock=clock)
    with TestClient(make_app(bus), base_url="https://app.example") as client:
        keep_cookies(client, bus)
        csrf = {"X-CSRF-Token": client.cookies["__Host-csrf_token"]}
        both = {**csrf, **bearer(bus.issue("bob").access_token)}
        assert client.post("/logout", headers=both).status_code == 400
        assert bus.status().entries == 0


def test_the_document_says_what_it_takes(client: TestClient) -> None:
    """A client's developer would not know that a token is needed at all."""
    document: Any = client.get("/openapi.json").json()
    logout, leave = (document["paths"][path]["post"] for path in ("/logout", "/leave"))
    assert logout["security"] == [{"AccessToken": []}]
    assert leave["security"] == [{"AccessToken": []}, {}]
    assert {"401", "403", "503"} <= set(logout["responses"])
    assert "AccessToken" in document["components"]["securitySchemes"]
