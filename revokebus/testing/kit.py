"""What a test of an application needs: settings, users who are signed in, and their end."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from revokebus.settings.settings import Settings
from revokebus.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from revokebus.engine.engine import Engine
    from revokebus.results import Receipt

Answer = TypeVar("Answer")

_PATIENCE = 10.0
_UNAUTHORIZED = 401
_FAILED = 500


class Response(Protocol):
    """The answer of any HTTP client."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Any:
        """The headers."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is signed in.

    Attributes:
        subject: Who it is.
        session_id: His session.
        access_token: His access token.
        refresh_token: His refresh token.
    """

    subject: str
    session_id: str
    access_token: str
    refresh_token: str

    def __repr__(self) -> str:
        """Return what a failing test may print."""
        return f"User(subject={self.subject!r}, session_id={self.session_id!r})"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of his requests."""
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def refresh_headers(self) -> dict[str, str]:
        """The headers of a request to refresh."""
        return {"Authorization": f"Bearer {self.refresh_token}"}


class Kit:
    """Signs users of an application in and out, from a test.

    Args:
        clock: Told by the test what time it is.

    Attributes:
        clock: Likewise; for ``RevokeBus.attach(app, settings, clock=kit.clock)``.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self._secret = secrets.token_urlsafe(64)

    def settings(self, redis_url: str = "memory://", **changes: Any) -> Settings:
        """Return settings with a key of this test's, and intervals for impatient tests.

        Args:
            redis_url: Where revocations are kept.
            changes: Other settings.
        """
        quick: dict[str, Any] = {"tick_interval": 0.05, "redis_timeout": 0.5, "max_staleness": 5.0}
        given: dict[str, Any] = {"secret_key": self._secret, "redis_url": redis_url}
        return Settings(**{**given, **quick, **changes})

    def sign_in(
        self,
        bus: Engine,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
    ) -> User:
        """Return `subject`, with tokens that `bus` has issued; for the arguments see `issue`."""
        pair = bus.issue(subject, scopes=scopes, claims=claims, fresh=fresh)
        return User(subject, pair.session_id, pair.access_token, pair.refresh_token)

    def revoke(self, bus: Engine, user: User) -> Receipt:
        """Revoke the access token of `user`, from a test that is not async.

        Raises:
            RevokeBusError: As `Engine.revoke`.
        """
        return self.run(bus, bus.revoke(user.access_token))

    def sign_out(self, bus: Engine, user: User) -> Receipt:
        """Revoke the session of `user`, likewise."""
        return self.run(bus, bus.revoke_session(user.session_id))

    def run(self, bus: Engine, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Return what `work` returns, done on the event loop that `bus` runs on.

        For tests that are not async: with ``TestClient(app)`` that loop is in another thread.

        Raises:
            RuntimeError: The bus is not running.
        """
        loop = bus._lifecycle.loop  # noqa: SLF001 - the kit is a part of this package
        if loop is None or not loop.is_running():
            work.close()
            raise RuntimeError("the bus is not running: use `with TestClient(app)`")
        return asyncio.run_coroutine_threadsafe(work, loop).result(_PATIENCE)

    @staticmethod
    def assert_accepted(response: Response) -> None:
        """Check that a request was let in.

        Raises:
            AssertionError: It was refused.
        """
        is_in = response.status_code not in (_UNAUTHORIZED, 403) and response.status_code < _FAILED
        assert is_in, _told(response)  # noqa: S101

    @staticmethod
    def assert_revoked(response: Response) -> None:
        """Check that a request was refused because its token was revoked.

        Raises:
            AssertionError: It was let in, or refused for another reason.
        """
        challenge = response.headers.get("www-authenticate", "")
        is_revoked = response.status_code == _UNAUTHORIZED and "revoked" in challenge
        assert is_revoked, _told(response)  # noqa: S101 - what a test expects

    @staticmethod
    def assert_unknown(response: Response) -> None:
        """Check that a request was refused because the copy is too old to decide.

        Raises:
            AssertionError: It was decided upon.
        """
        assert response.status_code == 503, _told(response)  # noqa: S101, PLR2004


def _told(response: Response) -> str:
    challenge = response.headers.get("www-authenticate", "no challenge")
    return f"the answer is {response.status_code}, {challenge}"
