"""The framework-free core: start, stop, issue, revoke, check, status."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from revokebus.claims import AccessToken, RefreshToken, is_identifier
from revokebus.clock import ExpiryClock, SystemClock
from revokebus.denylist import Denylist
from revokebus.errors import (
    ConfigurationError,
    NotDurableError,
    NotReadyError,
    NotReplicatedError,
    ReplayedTokenError,
    RevokedTokenError,
    StaleError,
    StoreError,
    WrongTypeError,
)
from revokebus.issuer import RESERVED_CLAIMS, Issuer, TokenPair
from revokebus.memory import MemoryUpstream
from revokebus.predicates import Predicates
from revokebus.replica import Replica
from revokebus.report import BusStatus, Receipt
from revokebus.revocation import SPENT, Revocation, Spending
from revokebus.settings import MOST_REPLICAS, Settings
from revokebus.store import Store
from revokebus.upstream import Recorded
from revokebus.verifier import Verifier
from revokebus.wire import MAX_EXPIRES_AT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from revokebus.clock import Clock
    from revokebus.predicates import Predicate
    from revokebus.report import Finding, State
    from revokebus.settings import OnStale
    from revokebus.upstream import Upstream

logger = logging.getLogger("revokebus")

_SAY_AGAIN_SECONDS = 10.0
AnyToken = TypeVar("AnyToken", bound=AccessToken | RefreshToken)
AnyPredicate = TypeVar("AnyPredicate", bound="Predicate")


class Engine:
    """Issues, checks and revokes tokens, without any web framework.

    Args:
        settings: By default read from ``REVOKEBUS_*`` environment variables.
        clock: The machine's clocks by default; tests bring their own.

    Raises:
        pydantic.ValidationError: A setting is missing or wrong; the message names it.
    """

    def __init__(self, settings: Settings | None = None, *, clock: Clock | None = None) -> None:
        self.settings = settings or Settings()
        self._clock = clock = clock or SystemClock()
        self._expiry_clock = ExpiryClock(clock)
        # Without a Redis that could be asked instead, the copy has no limit.
        limit = self.settings.max_entries if self.settings.uses_redis else None
        self._denylist = Denylist(self._expiry_clock, limit)
        self._verifier = Verifier(self.settings, clock)
        self._issuer = Issuer(self.settings, clock)
        self._upstream = self._make_upstream(clock)
        self._predicates = Predicates()
        self._phase: Literal["new", "starting", "running", "closing", "closed"] = "new"
        self._said_stale_at = -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        enabled = self.settings.denylist_enabled
        self._checked = self.settings.checked_token_types if enabled else frozenset()

    def _make_upstream(self, clock: Clock) -> Upstream:
        settings = self.settings
        if not settings.uses_redis or not settings.denylist_enabled:
            return MemoryUpstream(self._denylist)
        return Replica(
            settings, self._denylist, clock, self._expiry_clock, lambda: Store(settings, clock)
        )

    # Life

    async def start(self) -> None:
        """Load the copy and keep it fresh from now on.

        Returns after ``startup_timeout`` at the latest, with a copy or without; without one
        every check raises `StaleError` until Redis can be reached.

        Raises:
            ConfigurationError: It was started and not closed since.
        """
        if self._phase not in ("new", "closed"):
            raise ConfigurationError("this RevokeBus is running already; one start, one close")
        self._warn_of_what_is_not_shared()
        before, self._phase = self._phase, "starting"
        self._loop = asyncio.get_running_loop()
        try:
            await self._upstream.start()
        except BaseException:
            if self._phase == "starting":  # and not closed meanwhile
                self._phase = before
            raise
        if self._phase == "starting":  # and not closed meanwhile
            self._phase = "running"

    def _warn_of_what_is_not_shared(self) -> None:
        if not self.settings.denylist_enabled:
            logger.warning("revokebus: denylist_enabled is off, so no token can be revoked")
        elif not self.settings.uses_redis:
            logger.warning(
                "revokebus: memory:// keeps revocations in this process alone; with several "
                "workers or instances the others would go on accepting the token: use a Redis"
            )

    async def close(self) -> None:
        """Stop. Every check raises `NotReadyError` from now on, until the next start."""
        if self._phase not in ("starting", "running"):
            return
        self._require_own_loop("bus.close")
        self._phase = "closing"
        try:
            await self._upstream.stop()
        finally:
            self._phase = "closed"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def status(self) -> BusStatus:
        """Return what is known of the copy; no network."""
        health = self._upstream.health()
        return BusStatus(
            state=self._state(health.staleness),
            entries=len(self._denylist),
            complete=self._denylist.complete,
            left_out=self._denylist.left_out,
            **asdict(health),
        )

    async def audit(self) -> list[Finding]:
        """Look at Redis and at the settings for what endangers the promises.

        Eviction, persistence, replicas, fencing, clocks, the user's rights and the log's
        retention. It also runs at the start, which logs its warnings and refuses a
        ``maxmemory-policy`` of ``allkeys-*``.

        Returns:
            What was found, what is well included; nothing on ``memory://``.

        Raises:
            StoreError: Redis could not be asked.
            NotReadyError: The bus is not running.
            ConfigurationError: It is called on another event loop than the bus's.
        """
        self._require_running()
        self._require_own_loop("bus.audit")
        return list(await self._upstream.audit())

    def _state(self, staleness: float | None) -> State:
        if self._phase in ("closing", "closed"):
            return "closed"
        if self._phase != "running" or staleness is None:
            return "starting"
        return "fresh" if staleness <= self.settings.max_staleness else "stale"

    # Issue

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
    ) -> TokenPair:
        """Return an access and a refresh token of a new session.

        Args:
            subject: The ``sub`` claim; not empty.
            scopes: What the tokens allow, a word each (RFC 6749 §3.3).
            claims: Further claims of both tokens, of names that RevokeBus does not use.
            fresh: Whether the owner has just proven who he is, for example with a password.

        Raises:
            ValueError: An argument is not as said above.
        """
        return self._issuer.issue(subject, scopes=scopes, claims=claims, fresh=fresh)

    async def rotate(self, token: RefreshToken) -> TokenPair:
        """Exchange a refresh token for a new pair of the same session, once.

        Redis decides who was first. A second use means that the token is in two hands, and
        nobody knows which is the thief's: the whole session is revoked (RFC 9700 §4.14.2).

        Raises:
            ExpiredTokenError: The token has expired since it was verified.
            RevokedTokenError: The token or its session was revoked.
            ReplayedTokenError: The token was used before; its session is now revoked.
            StoreError: Redis could not say whether it was; the token is not used up, unless
                only the answer was lost.
            TypeError: `token` is an access token: it must not buy a longer life.
        """
        if not isinstance(token, RefreshToken):
            raise TypeError("rotate takes a RefreshToken")
        self._require_denylist()
        self._verifier.check_time(token)
        by_jti, by_sid = self._revocation_of(token), self._session_revocation(token.session_id)
        spent = replace(by_jti, claim=SPENT)
        outcome = await self._upstream.spend(spent, unless=[by_jti, by_sid])
        if outcome is Spending.REVOKED:
            raise RevokedTokenError
        if outcome is Spending.SPENT:
            lasting = max(by_sid.expires_at, by_jti.expires_at)
            try:
                await self._revoke([replace(by_sid, expires_at=lasting)])
            except NotDurableError as error:  # refused here, and said in the status
                raise ReplayedTokenError from error
            raise ReplayedTokenError
        own = {k: v for k, v in token.claims.items() if k not in RESERVED_CLAIMS}
        return self._issuer.issue(
            token.subject, scopes=token.scopes, claims=own, session_id=token.session_id
        )

    # Revoke

    async def revoke(
        self, token: AccessToken | RefreshToken | str, *, min_replicas: int | None = None
    ) -> Receipt:
        """Refuse `token` from now on, here at once and everywhere within milliseconds.

        Args:
            token: A verified token, or an encoded one. One that has expired is left alone.
            min_replicas: For how many replicas of Redis to wait, half of ``redis_timeout`` at
                most; the setting by default. The receipt says how many there were.

        Raises:
            InvalidTokenError: The encoded token is not one of ours.
            NotDurableError: Refused here from now on, but Redis does not hold the record yet.
            NotReplicatedError: Recorded, but by fewer replicas than that.
            ValueError: `min_replicas` is not a number from 0 to 100.
            ConfigurationError: `min_replicas` on ``memory://``, which has none.
        """
        if not isinstance(token, str | AccessToken | RefreshToken):
            raise TypeError("revoke takes a token or its encoded form")
        if isinstance(token, str):
            token = self._verifier.verify_signature(token)
        return await self._revoke([self._revocation_of(token)], min_replicas)

    async def revoke_session(self, session_id: str, *, min_replicas: int | None = None) -> Receipt:
        """Refuse every token of a session, those not issued yet included.

        Args:
            session_id: The ``sid`` of the session's tokens.
            min_replicas: As for `revoke`.

        Raises:
            ValueError: `session_id` is not a text of 1 to 4096 characters.
            NotDurableError: Refused here from now on, but Redis does not hold the record yet.
            NotReplicatedError: Recorded, but by fewer replicas than `min_replicas`.
            ValueError: `min_replicas` is not a number from 0 to 100.
            ConfigurationError: `min_replicas` on ``memory://``, which has none.
        """
        if not is_identifier(session_id):
            raise ValueError("session_id must be a text of 1 to 4096 characters")
        return await self._revoke([self._session_revocation(session_id)], min_replicas)

    async def _revoke(
        self, revocations: list[Revocation], min_replicas: int | None = None
    ) -> Receipt:
        self._require_denylist()
        needed = self._replicas_needed(min_replicas)
        now = self._expiry_clock.now()  # a step of the wall clock expires nothing
        live = [revocation for revocation in revocations if revocation.expires_at > now]
        for revocation in live:
            self._denylist.add(revocation)
        try:
            recorded = await self._upstream.write(live, needed) if live else Recorded()
        except StoreError as error:
            raise NotDurableError(
                f"applied here, not durable: {error}; it is written as soon as Redis takes it, if "
                "this process lives until then"
            ) from error
        receipt = Receipt(len(live), recorded.position, recorded.replicas)
        if recorded.replicas is not None and recorded.replicas < needed:
            raise NotReplicatedError(receipt, needed)
        return receipt

    def _replicas_needed(self, min_replicas: int | None) -> int:
        if min_replicas is None:
            return self.settings.min_replicas
        if type(min_replicas) is not int or not 0 <= min_replicas <= MOST_REPLICAS:
            raise ValueError(f"min_replicas must be a whole number from 0 to {MOST_REPLICAS}")
        if min_replicas and not self.settings.uses_redis:
            raise ConfigurationError("min_replicas needs a Redis; memory:// has no replicas")
        return min_replicas

    def _revocation_of(self, token: AccessToken | RefreshToken) -> Revocation:
        expires_at = min(token.expires_at + self.settings.leeway, MAX_EXPIRES_AT)
        return Revocation("jti", token.jti, expires_at)

    def _session_revocation(self, session_id: str) -> Revocation:
        return Revocation("sid", session_id, self._clock.wall() + self.settings.longest_life)

    # Check

    def is_revoked(self, claims: Mapping[str, object]) -> bool:
        """Return whether the local copy holds a revocation of a token with these claims.

        A look-up in memory, whatever the state of the copy: True is certain, False is as old as
        `status` says.
        """
        return self._denylist.matches(claims)

    def deny_if(self, predicate: AnyPredicate) -> AnyPredicate:
        """Add the application's own check, asked after the local copy. Usable as a decorator.

        Args:
            predicate: A function, sync or async, that is given the token and returns True to
                refuse it. If it raises, or returns anything but a bool, the request is refused
                with `PredicateError`. A sync one must not block: it runs on the event loop.
        """
        self._predicates.add(predicate)
        return predicate

    async def authenticate(
        self, encoded: str, token_type: type[AnyToken], *, on_stale: OnStale | None = None
    ) -> AnyToken:
        """Return the token that `encoded` is, if it may be used.

        Waits for nothing but predicates, and for Redis only where the copy is too old and
        ``on_stale`` says to ask.

        Args:
            encoded: The token as it was sent.
            token_type: What it has to be.
            on_stale: What to do where the copy is too old; the setting by default.

        Raises:
            InvalidTokenError: Or one of its kinds: the token must not be used.
            StaleError: It is not known whether it may.
            PredicateError: The application's own check failed.
        """
        token = self._verifier.verify(encoded)
        if not isinstance(token, token_type):
            raise WrongTypeError(token_type.type)
        policy = on_stale or self.settings.on_stale
        await self._require_unrevoked(token, policy)
        if self._predicates and token_type.type in self.settings.checked_token_types:
            await self._predicates.ask(token)
            await self._require_unrevoked(token, policy)  # a predicate may have waited
        return token

    async def _require_unrevoked(self, token: AccessToken | RefreshToken, policy: OnStale) -> None:
        if token.type not in self._checked:
            return
        # A local hit refuses in every state; only a miss depends on the copy's age.
        if self._denylist.matches(token.verified_claims):
            raise RevokedTokenError
        self._require_running()
        age = self._upstream.age()
        if age is None or age > self.settings.max_staleness:
            await self._decide_without_proof(token, age, policy)
        elif not self._denylist.complete:
            try:
                await self._ask_redis(token, "The copy of the revocations is not complete")
            except StaleError:
                if policy != "accept":
                    raise
                self._say_that_stale_is_accepted(age)

    async def _ask_redis(self, token: AccessToken | RefreshToken, why: str) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise StaleError(f"{why}, and Redis can only be asked on the event loop of the bus")
        matching = [self._revocation_of(token), self._session_revocation(token.session_id)]
        try:
            recorded = await self._upstream.has_record(matching)
        except StoreError as error:
            raise StaleError(f"{why}, and Redis cannot be asked") from error
        if recorded:
            raise RevokedTokenError

    async def _decide_without_proof(
        self, token: AccessToken | RefreshToken, age: float | None, policy: OnStale
    ) -> None:
        if policy == "ask_redis":
            await self._ask_redis(token, "The revocations are too old")
            return
        if age is None:  # nothing is known, so there is no last known good
            raise StaleError("The revocations have not been loaded yet")
        if policy == "reject":
            raise StaleError("The revocations are too old to decide")
        self._say_that_stale_is_accepted(age)

    def _say_that_stale_is_accepted(self, age: float) -> None:
        now = self._clock.elapsed()
        if now - self._said_stale_at > _SAY_AGAIN_SECONDS:
            self._said_stale_at = now
            logger.error(
                "revokebus accepts tokens by revocations that are %.0f s old (on_stale=accept): %s",
                age,
                self.status().last_error,
            )

    def _require_running(self) -> None:
        if self._phase != "running":
            raise NotReadyError(
                "RevokeBus is not running: it starts with the lifespan of the application that it "
                "is attached to, which is the outermost one (in tests: `with TestClient(app)`; in "
                "a script: `async with RevokeBus() as bus`)"
            )

    def _require_own_loop(self, call: str) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigurationError(
                "this RevokeBus runs on another event loop; in a sync route write "
                f"anyio.from_thread.run({call})"
            )

    def _require_denylist(self) -> None:
        self._require_running()
        self._require_own_loop("bus.revoke, token")
        if not self.settings.denylist_enabled:
            raise ConfigurationError(
                "denylist_enabled (REVOKEBUS_DENYLIST_ENABLED) is off, so nothing would refuse "
                "the token"
            )
