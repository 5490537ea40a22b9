"""What an application may do wrongly with the endpoints, and what its clients may send."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from revokebus import (
    ClientAuthentication,
    RevokeBus,
    introspection_endpoint,
    require_access,
    revocation_endpoint,
)
from revokebus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import MakeSettings

SECRETS = {"app": "secret"}


def make(make_settings: MakeSettings, client: Callable[..., Any], **changes: Any) -> FastAPI:
    app = FastAPI()
    RevokeBus.attach(app, make_settings(**changes))
    app.include_router(revocation_endpoint(client))
    app.include_router(introspection_endpoint(client))
    return app


@pytest.mark.parametrize("form", [{"client_id": "ghost"}, {"client_id": "app"}, {}])
def test_without_a_secret_nobody_is_a_client(
    make_settings: MakeSettings, form: dict[str, str]
) -> None:
    """A comparison with what an unknown client has, nothing, would let everybody in."""
    careless = ClientAuthentication(lambda n, s: hmac.compare_digest(SECRETS.get(n, ""), s))
    app = make(make_settings, careless)
    with TestClient(app) as http:
        token = app.state.revokebus.issue("alice").access_token
        for path in ("/revoke", "/introspect"):
            answer = http.post(path, data={"token": token, **form})
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        good = {"token": token, "client_id": "app", "client_secret": "secret"}
        assert http.post("/introspect", data=good).json()["active"] is True


def _raises(_name: str, _secret: str) -> bool:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "check", [_raises, lambda _n, _s: None, lambda _n, _s: 1, lambda _n, _s: "yes"]
)
def test_only_true_is_yes(
    make_settings: MakeSettings, check: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that forgets to return, or fails, would let everybody in, or answer 500."""
    with TestClient(make(make_settings, ClientAuthentication(check))) as http:
        form = {"token": "x", "client_id": "a", "client_secret": "the-secret"}
        assert http.post("/introspect", data=form).status_code == 401
    assert "the-secret" not in caplog.text


def test_a_check_that_fails_is_told_in_full_once(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger would fill the disk with tracebacks."""
    with TestClient(make(make_settings, ClientAuthentication(_raises))) as http:
        for _ in range(3):
            http.post("/introspect", data={"token": "x", "client_id": "a", "client_secret": "b"})
    said = [record for record in caplog.records if "OAuth client" in record.message]
    assert len(said) == 3
    assert [bool(record.exc_info) for record in said] == [True, False, False]


def test_a_client_without_an_id_owns_nothing(make_settings: MakeSettings) -> None:
    """A dependency that only lets pass would be taken for a client that owns all tokens."""

    async def somebody() -> None: ...

    app = make(make_settings, somebody)
    with TestClient(app) as http:
        token = app.state.revokebus.issue("alice").access_token
        with pytest.raises(ConfigurationError, match="owner_claim"):
            http.post("/revoke", data={"token": token})


def test_every_client_may_where_the_application_says_so(make_settings: MakeSettings) -> None:
    """An application without client ids could not offer the endpoint."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())
    app.include_router(revocation_endpoint(require_access("revoke"), owner_claim=None))
    with TestClient(app) as http:
        allowed = bus.issue("service", scopes=["revoke"]).access_token
        token = bus.issue("alice").access_token
        headers = {"Authorization": f"Bearer {allowed}"}
        assert http.post("/revoke", data={"token": token}).status_code == 401
        assert http.post("/revoke", data={"token": token}, headers=headers).status_code == 200
        assert bus.status().entries == 1


@pytest.mark.parametrize(
    "changes", [{"denylist_enabled": False}, {"checked_token_types": ["refresh"]}]
)
def test_what_cannot_be_revoked_is_said(
    make_settings: MakeSettings, changes: dict[str, Any]
) -> None:
    """A client would believe that the token is worth nothing now."""
    client = ClientAuthentication(lambda name, secret: SECRETS.get(name) == secret)
    app = make(make_settings, client, **changes)
    with TestClient(app) as http:
        token = app.state.revokebus.issue("a", claims={"client_id": "app"}).access_token
        form = {"token": token, "client_id": "app", "client_secret": "secret"}
        answer = http.post("/revoke", data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")


def test_times_are_whole(make_settings: MakeSettings) -> None:
    """A client that reads them as integers would fail at the whole answer (RFC 7662 §2.2)."""
    client = ClientAuthentication(lambda name, secret: SECRETS.get(name) == secret)
    app = make(make_settings, client)
    with TestClient(app) as http:
        token = app.state.revokebus.issue("alice").access_token
        form = {"token": token, "client_id": "app", "client_secret": "secret"}
        answer = http.post("/introspect", data=form).json()
        assert {type(answer[name]) for name in ("iat", "exp", "auth_time")} == {int}
