"""The framework-free core: start, stop, issue, revoke, check, status."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from revokebus.clock import ExpiryClock, SystemClock
from revokebus.denylist.denylist import Denylist
from revokebus.denylist.freshness import Freshness
from revokebus.engine.checker import Checker
from revokebus.engine.fast_path import FastPath
from revokebus.engine.forgotten import made_anyway
from revokebus.engine.lifecycle import Lifecycle
from revokebus.engine.open_guards import Item, OpenGuard, OpenGuards, until_ended
from revokebus.engine.parts import Parts
from revokebus.engine.revoker import Assurance, Revoker
from revokebus.engine.rotation import Rotation
from revokebus.engine.sign_ins import SignIns
from revokebus.errors import ConfigurationError
from revokebus.protocol.cut_offs import CutOffs
from revokebus.protocol.fleet import Fleet
from revokebus.replication.feed import Feed
from revokebus.replication.memory_backend import MemoryBackend
from revokebus.replication.redis_backend import RedisBackend
from revokebus.results import BusStatus, EndingSession
from revokebus.settings.settings import Settings, check_on_stale, similar_setting, unknown_variables
from revokebus.telemetry.counters import Counters
from revokebus.telemetry.events import event
from revokebus.telemetry.last_resort import say_levels
from revokebus.tokens.claims import AccessToken, AnyToken, RefreshToken
from revokebus.tokens.issuer import Issuer
from revokebus.tokens.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    from revokebus.clock import Clock
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.engine.predicates import Predicate
    from revokebus.protocol.revocation import Value
    from revokebus.replication.backend import Backend
    from revokebus.replication.feed import Heard
    from revokebus.results import Finding, InstanceStatus, Receipt, State, UserSession
    from revokebus.settings.settings import OnStale
    from revokebus.tokens.issuer import IssuedAccess, TokenPair

logger = logging.getLogger("revokebus")

_READ_AT_ONCE = 100

AnyPredicate = TypeVar("AnyPredicate", bound="Predicate")


class Engine:
    """Issues, checks and revokes tokens, without any web framework.

    Args:
        settings: By default read from ``REVOKEBUS_*`` environment variables.
        clock: The machine's clocks by default; tests bring their own.
        credentials: Has the password of Redis for each connection, in redis-py's form of it
            (``redis.CredentialProvider``), where it changes: IAM tokens, for example.

    Attributes:
        settings: What was set.
        counts: What was counted since then.
        cached_token: The quick way to the token of a request, if it was verified before.

    Raises:
        pydantic.ValidationError: A setting is missing or wrong; the message names it.
        ConfigurationError: There are `credentials`, and a password in the settings.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        credentials: CredentialProvider | None = None,
    ) -> None:
        say_levels()
        self.settings = settings = settings or Settings()
        if credentials is not None:
            settings.check_no_password()
        self._credentials = credentials
        self._clock = clock = clock or SystemClock()
        expiry_clock = ExpiryClock(clock)
        self._lifecycle = Lifecycle()
        # Without a Redis that could be asked instead, the copy has no limit.
        limit = settings.max_entries if settings.uses_redis else None
        cut_offs = CutOffs(clock, settings.leeway)
        self._fleet = fleet = Fleet(
            clock,
            leeway=settings.leeway,
            longest_life=settings.longest_life,
            is_alone=not settings.uses_redis or not settings.denylist_enabled,
        )
        self._denylist = Denylist(expiry_clock, limit, on_cut_off=cut_offs.note)
        self._freshness = freshness = Freshness(clock, expiry_clock, settings.max_staleness)
        self._guards = OpenGuards(settings, clock, self._denylist, freshness)
        self.counts = Counters()
        self._feed = Feed(clock)
        self._backend = self._make_backend(clock, freshness)
        self._verifier = Verifier(settings, clock, self.counts)
        parts = Parts(
            settings=settings,
            clock=clock,
            expiry_clock=expiry_clock,
            cut_offs=cut_offs,
            fleet=fleet,
            lifecycle=self._lifecycle,
            verifier=self._verifier,
            denylist=self._denylist,
            freshness=freshness,
            counters=self.counts,
            backend=self._backend,
        )
        self._checker = Checker(parts)
        self.cached_token = FastPath(parts, self._checker.is_clear).token
        self._revoker = Revoker(parts)
        self._issuer = Issuer(settings, clock, cut_offs, fleet)
        self._rotation = Rotation(parts, self._issuer, self._checker, self._revoker)
        self._sign_ins = SignIns(parts, self._issuer)

    def _make_backend(self, clock: Clock, freshness: Freshness) -> Backend:
        settings, denylist = self.settings, self._denylist
        if not settings.uses_redis or not settings.denylist_enabled:
            return MemoryBackend(
                denylist,
                clock,
                freshness,
                self._feed,
                settings.longest_life,
                settings.rotation_grace,
            )

        return RedisBackend(
            settings,
            denylist,
            clock,
            freshness,
            self._fleet,
            self.counts,
            self._feed,
            self._credentials,
        )

    # Life

    async def start(self) -> None:
        """Load the copy and keep it fresh from now on.

        Returns after ``startup_timeout`` at the latest, with a copy or without; without one
        every check raises `StaleError` until Redis can be reached. For the keys of outside
        issuers it waits as long again.

        Raises:
            ConfigurationError: It was started and not closed since.
        """
        lifecycle = self._lifecycle
        if lifecycle.phase not in ("new", "closed"):
            raise ConfigurationError("this RevokeBus is running already; one start, one close")
        self._warn_of_what_is_not_shared()
        for name in unknown_variables(os.environ):
            logger.warning(
                "revokebus: the variable %s is set and is no setting%s",
                name,
                similar_setting(name),
                extra=event("unknown_variable"),
            )
        before, lifecycle.phase = lifecycle.phase, "starting"
        lifecycle.loop = asyncio.get_running_loop()
        try:
            await self._backend.start()
            if lifecycle.phase == "starting":
                await self._fetch_keys()
        except BaseException:
            if lifecycle.phase == "starting":  # and not closed meanwhile
                lifecycle.phase = before
            raise
        if lifecycle.phase == "starting":  # and not closed meanwhile
            lifecycle.phase = "running"

    async def _fetch_keys(self) -> None:
        key_sets = self._verifier.remote_key_sets
        for key_set in key_sets:
            key_set.start()
        try:
            async with asyncio.timeout(self.settings.startup_timeout):
                await asyncio.gather(*(key_set.refresh() for key_set in key_sets))
        except TimeoutError:
            logger.warning(
                "revokebus starts before the keys of every issuer could be fetched",
                extra=event("started_without_keys"),
            )
        except BaseException:
            await self._stop()
            raise

    async def _stop_fetching(self) -> None:
        for key_set in self._verifier.remote_key_sets:
            await key_set.stop()

    def _warn_of_what_is_not_shared(self) -> None:
        if not self.settings.denylist_enabled:
            logger.warning(
                "revokebus: denylist_enabled is off, so no token can be revoked",
                extra=event("denylist_off"),
            )
        elif not self.settings.uses_redis:
            logger.warning(
                "revokebus: memory:// keeps revocations in this process alone; with several "
                "workers or instances the others would go on accepting the token: use a Redis",
                extra=event("memory_not_shared"),
            )

    async def close(self) -> None:
        """Stop. Every check raises `NotReadyError` from now on, until the next start."""
        if self._lifecycle.phase not in ("starting", "running"):
            return
        self._lifecycle.require_own_loop("bus.close")
        try:
            if late := list(self._lifecycle.late):
                await asyncio.wait(late, timeout=self.settings.redis_timeout)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._lifecycle.phase not in ("starting", "running"):
            return  # closed meanwhile
        self._lifecycle.phase = "closing"
        self._denylist.changed()
        self._guards.close()
        self._feed.close()
        try:
            await self._stop()
        finally:
            self._lifecycle.phase = "closed"

    async def _stop(self) -> None:
        try:
            await self._backend.stop()
        finally:
            await self._stop_fetching()

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
        health = self._backend.health()
        return BusStatus(
            state=self._state(),
            entries=len(self._denylist),
            complete=self._denylist.complete,
            left_out=self._denylist.left_out,
            clock_skew=self._fleet.skew,
            **asdict(health),
        )

    async def can_decide(self) -> bool:
        """Return whether a token that nothing is known against would be accepted now.

        By the copy and ``on_stale``, as in a request; and as there, Redis is asked only where the
        copy does not decide.
        """
        return await self._checker.can_decide()

    async def fleet(self) -> list[InstanceStatus]:
        """Ask every instance for a heartbeat, and return how each is.

        It takes as long as the slowest of them needs for a tick: some 0.7 s, 10 s at most.

        Those that have ended are among them for as long as they might still accept tokens, if
        they did not say that they end.

        Raises:
            StoreError: Redis could not be asked.
            NotReadyError: The bus is not running.
            ConfigurationError: It is called on another event loop than the bus's.
        """
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.fleet")
        return list(await self._backend.fleet())

    def feed(self) -> AsyncGenerator[Heard]:
        """Yield revocations as they reach this process, until the bus is closed.

        For people who watch. It is not complete: what a listing brings is not among them, and a
        watcher that is slow is told how many it has missed.
        """
        return self._feed.listen()

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
        self._lifecycle.require_running()
        self._lifecycle.require_own_loop("bus.audit")
        return list(await self._backend.audit())

    def _state(self) -> State:
        if self._lifecycle.phase in ("closing", "closed"):
            return "closed"
        return self._freshness.state if self._lifecycle.phase == "running" else "starting"

    # Issue

    def issue(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
        access_ttl: float | None = None,
        refresh_ttl: float | None = None,
    ) -> TokenPair:
        """Return an access and a refresh token of a new session.

        Args:
            subject: The ``sub`` claim; not empty.
            scopes: What the tokens allow, a word each (RFC 6749 §3.3).
            claims: Further claims of both tokens, of names that RevokeBus does not use: what JSON
                can hold, and UUIDs, dates and datetimes, which are written as texts.
            fresh: Whether the owner has just proven who he is, for example with a password.
            access_ttl: Lifetime of the session's access tokens, in seconds, through all
                refreshes; the setting by default. ``max_token_life`` at most.
            refresh_ttl: Likewise, of its refresh tokens: "remember me".

        Raises:
            ValueError: An argument is not as said above.
        """
        return self._issuer.issue(
            subject,
            scopes=scopes,
            claims=claims,
            fresh=fresh,
            access_ttl=access_ttl,
            refresh_ttl=refresh_ttl,
        )

    def issue_access(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
        access_ttl: float | None = None,
    ) -> IssuedAccess:
        """Return an access token of a new session that has no refresh token.

        Args:
            subject: As for `issue`, and so are the others.
            scopes: See there.
            claims: See there.
            fresh: See there.
            access_ttl: See there.

        Raises:
            ValueError: An argument is not as said there.
        """
        return self.issue(
            subject, scopes=scopes, claims=claims, fresh=fresh, access_ttl=access_ttl
        ).access

    async def sign_in(
        self,
        subject: str,
        *,
        device: str = "",
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        fresh: bool = False,
        access_ttl: float | None = None,
        refresh_ttl: float | None = None,
    ) -> TokenPair:
        """Return the tokens of a new session, as `issue` does, and put it on the user's list.

        The list is for people, and no condition of anything. Where Redis is away the session is
        listed with its first refresh; where Redis has lost the list, with its next one.

        Args:
            subject: As for `issue`, and so are those after `device`.
            device: What `sessions` calls it, for example made of the ``User-Agent``; cut to 200
                characters, and without those that cannot be printed. The refresh token has it too.
            scopes: See there.
            claims: See there.
            fresh: See there.
            access_ttl: See there.
            refresh_ttl: See there.

        Raises:
            ValueError: An argument is not as said there.
            NotReadyError: The bus is not running.
        """
        return await self._sign_ins.sign_in(
            subject,
            device,
            scopes=scopes,
            claims=claims,
            fresh=fresh,
            access_ttl=access_ttl,
            refresh_ttl=refresh_ttl,
        )

    async def sessions(self, subject: str, *, issuer: str | None = None) -> list[UserSession]:
        """Return the sessions of a user that were begun by `sign_in` and live, latest use first.

        Those that the copy knows to be over are left out: ended by themselves, with all of the
        user's, or with everything. Of one user the 100 used last are kept.

        Args:
            subject: The ``sub`` of their tokens.
            issuer: The ``iss`` of the token by which they are asked for; the application's own by
                default. Outside issuers list their sessions themselves: there is none for them.

        Raises:
            StoreError: Redis refuses, or does not answer in time.
            ValueError: `subject` is not a text of 1 to 4096 characters.
            NotReadyError: The bus is not running.
        """
        return await self._sign_ins.sessions(subject, issuer)

    async def rotate(
        self,
        token: RefreshToken,
        *,
        client: str | None = None,
        scopes: Iterable[str] | None = None,
        claims: Mapping[str, object] | None = None,
    ) -> TokenPair:
        """Exchange a refresh token for a new pair of the same session, once.

        Redis decides. Within ``rotation_grace`` a token that was exchanged is answered with the
        newest pair of its session, because the first answer may have been lost; so is one whose
        exchange no instance could answer, however long ago. Any other second use means that the
        token has leaked, and cannot be told apart from its copy: the whole session is
        revoked (RFC 9700 §4.14.2). An exchange is no revocation: nothing of it is pushed, logged
        in Redis or kept in a copy.

        Args:
            token: The refresh token.
            client: Where it is given, only the same client is answered a second time: a device's
                id, or what `client_of` makes of a request. Only a digest of it is stored. A
                client whose address changes is signed out by it.
            scopes: What the new tokens allow; by default what the session has. A role that was
                taken away is gone with them.
            claims: Their further claims; by default those of the session.

        Raises:
            ExpiredTokenError: The token has expired since it was verified.
            RevokedTokenError: The token, its session or its owner's tokens were revoked.
            ReplayedTokenError: The token was used before; its session is now revoked.
            InvalidTokenError: An outside issuer has made the token, or the session cannot go on.
            StoreError: Redis did not answer. The same token may be presented again, to any
                instance, however long that lasts.
            ValueError: `client` is not a text of 1 to 4096 characters, or `scopes` or `claims`
                are not as for `issue`.
            TypeError: `token` is an access token: it must not buy a longer life.
        """
        return await self._rotation.rotate(token, client, scopes, claims)

    # Revoke

    @made_anyway
    async def revoke(
        self,
        token: AccessToken | RefreshToken | str,
        *,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Refuse `token` from now on, here at once and everywhere within milliseconds.

        Args:
            token: A verified token, or an encoded one. One that has expired is left alone.
            min_replicas: For how many replicas of Redis to wait, half of ``redis_timeout`` at
                most; the setting by default. The receipt says how many there were.
            confirm: With ``fleet`` it waits until every instance that lives has answered that it
                refuses the token; the receipt says which has, how fast, and which has not.
            timeout: For how many seconds to wait for these answers, 60 at most.

        Raises:
            InvalidTokenError: The encoded token is not one of ours.
            NotDurableError: Refused here from now on, but Redis does not hold the record yet.
            NotReplicatedError: Recorded, but by fewer replicas than that.
            NotConfirmedError: Recorded, but Redis could not say which instances there are.
            ValueError: `min_replicas` is not a number from 0 to 100, or `timeout` out of range.
            ConfigurationError: `min_replicas` on ``memory://``, which has none.
        """
        if not isinstance(token, AccessToken | RefreshToken):
            token = await self._read(token)
        revocation = self._revoker.of_token(token)
        return await self._revoker.revoke([revocation], Assurance(min_replicas, confirm, timeout))

    @made_anyway
    async def revoke_many(
        self,
        tokens: Iterable[AccessToken | RefreshToken | str],
        *,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Refuse many tokens, in few requests to Redis.

        Args:
            tokens: As for `revoke`. If one of them is not ours, none is revoked.
            min_replicas: As for `revoke`, and so are the last two.
            confirm: See there.
            timeout: See there.

        Raises:
            Exception: Those of `revoke`.
        """
        if isinstance(tokens, str):
            raise TypeError("revoke_many takes several tokens; revoke takes one")
        revocations = []
        for number, token in enumerate(list(tokens), start=1):
            revocations.append(self._revoker.of_token(await self._read(token)))
            if number % _READ_AT_ONCE == 0:
                await asyncio.sleep(0)  # let requests through
        return await self._revoker.revoke(revocations, Assurance(min_replicas, confirm, timeout))

    async def _read(self, token: AccessToken | RefreshToken | str) -> AccessToken | RefreshToken:
        if isinstance(token, AccessToken | RefreshToken):
            return token
        if not isinstance(token, str):
            raise TypeError("revoke takes a token or its encoded form")
        return await self._checker.read(token)

    @made_anyway
    async def revoke_session(
        self,
        session_id: str | EndingSession | AccessToken | RefreshToken,
        *,
        issued_before: float | datetime | None = None,
        issuer: str | None = None,
        dry_run: bool = False,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Refuse every token of a session: access and refresh, those not issued yet included.

        Args:
            session_id: The ``sid`` of the session's tokens, one of them, or what `require_logout`
                has found.
            issued_before: Refuse only tokens from before this moment, in seconds since the epoch
                or as a datetime with a time zone.
            issuer: The ``iss`` of the tokens; the application's own by default, or that of the
                token.
            dry_run: Revoke nothing, and say in the receipt what would be touched.
            min_replicas: As for `revoke`, and so are the last two.
            confirm: See there.
            timeout: See there.

        Raises:
            ValueError: `session_id` is not a text of 1 to 4096 characters, or another argument
                is not as said.
            NotDurableError: Refused here from now on, but Redis does not hold the record yet.
            NotReplicatedError: Recorded, but by fewer replicas than `min_replicas`.
            ConfigurationError: `min_replicas` on ``memory://``, which has none.
        """
        if isinstance(session_id, EndingSession | AccessToken | RefreshToken):
            issuer, session_id = session_id.issuer, session_id.session_id
        revocation = self._revoker.of_session(session_id, issued_before, issuer)
        return await self._revoker.revoke_one(
            revocation, Assurance(min_replicas, confirm, timeout), dry_run=dry_run
        )

    @made_anyway
    async def revoke_subject(
        self,
        subject: str,
        issued_before: float | datetime | None = None,
        *,
        keep: str | None = None,
        issuer: str | None = None,
        dry_run: bool = False,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Sign `subject` out everywhere: refuse every token of sign-ins from before a moment.

        A new sign-in works at once, within the same second, too.

        Args:
            subject: The ``sub`` of the tokens.
            issued_before: The moment; now by default. For the rest see `revoke_session`.
            keep: The ``sid`` of a session that goes on: that of the user's own token, to sign out
                everywhere else. What another call has ended stays so.
            issuer: The ``iss`` of the tokens; the application's own by default.
            dry_run: Revoke nothing, and say in the receipt what would be touched.
            min_replicas: As for `revoke`, and so are the last two.
            confirm: See there.
            timeout: See there.

        Raises:
            Exception: Those of `revoke_session`.
        """
        return await self.revoke_claim(
            "sub",
            subject,
            issued_before,
            keep=keep,
            issuer=issuer,
            dry_run=dry_run,
            min_replicas=min_replicas,
            confirm=confirm,
            timeout=timeout,
        )

    @made_anyway
    async def revoke_claim(
        self,
        claim: str,
        value: Value | UUID,
        issued_before: float | datetime | None = None,
        *,
        keep: str | None = None,
        issuer: str | None = None,
        dry_run: bool = False,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Refuse every token with a claim, of sign-ins from before a moment.

        For a client, a tenant, a device. Of several such calls the latest moment counts, and a
        session goes on as long as each of them keeps it, or has a moment before its sign-in.

        Args:
            claim: Its name, one of those in ``revocable_claims``, or ``sub``.
            value: Its value, compared as JSON compares: ``1`` is ``1.0``, and is neither
                ``"1"`` nor ``true``; a UUID is its text. A claim that is a list is meant if this
                is in it.
            issued_before: The moment; now by default, and none for ``jti``, which is of one token.
                For the rest see `revoke_session`.
            keep: The ``sid`` of a session that goes on, as for `revoke_subject`; not for ``jti``
                and ``sid``.
            issuer: The ``iss`` of the tokens; the application's own by default.
            dry_run: Revoke nothing, and say in the receipt what would be touched.
            min_replicas: As for `revoke`, and so are the last two.
            confirm: See there.
            timeout: See there.

        Raises:
            Exception: Those of `revoke_session`.
        """
        revocation = self._revoker.of_claim(claim, value, issued_before, issuer, keep)
        return await self._revoker.revoke_one(
            revocation, Assurance(min_replicas, confirm, timeout), dry_run=dry_run
        )

    @made_anyway
    async def revoke_all(
        self,
        issued_before: float | datetime | None = None,
        *,
        dry_run: bool = False,
        min_replicas: int | None = None,
        confirm: Literal["fleet"] | None = None,
        timeout: float = 2.0,
    ) -> Receipt:
        """Sign everybody out: refuse every token, of every issuer, from before a moment.

        Args:
            issued_before: The moment; now by default. For the rest see `revoke_session`.
            dry_run: Revoke nothing, and say in the receipt what would be touched.
            min_replicas: As for `revoke`, and so are the last two.
            confirm: See there.
            timeout: See there.

        Raises:
            Exception: Those of `revoke_session`.
        """
        revocation = self._revoker.of_everything(issued_before)
        return await self._revoker.revoke_one(
            revocation, Assurance(min_replicas, confirm, timeout), dry_run=dry_run
        )

    # Check

    def is_revoked(self, claims: Mapping[str, object]) -> bool:
        """Return whether the local copy holds a revocation of a token with these claims.

        A look-up in memory, whatever the state of the copy: True is certain, False is as old as
        `status` says.

        Args:
            claims: The claims of a verified token, as `AccessToken.claims` has them: with the id
                that a token of an outside issuer was given if it had none. Without ``iat`` every
                cut-off counts.
        """
        return self._checker.is_revoked(claims)

    def deny_if(self, predicate: AnyPredicate) -> AnyPredicate:
        """Add the application's own check, asked after the local copy. Usable as a decorator.

        Args:
            predicate: A function, sync or async, that is given the token and returns True to
                refuse it. If it raises, or returns anything but a bool, the request is refused
                with `PredicateError`. A sync one must not block: it runs on the event loop.
        """
        self._checker.add_predicate(predicate)
        return predicate

    async def authenticate(
        self, encoded: str, token_type: type[AnyToken], *, on_stale: OnStale | None = None
    ) -> AnyToken:
        """Return the token that `encoded` is, if it may be used.

        Waits for nothing but predicates, for Redis only where the copy is too old and
        ``on_stale`` says to ask, and for the keys of an outside issuer that has new ones.

        Args:
            encoded: The token as it was sent.
            token_type: What it has to be.
            on_stale: What to do where the copy is too old; the setting by default.

        Raises:
            InvalidTokenError: Or one of its kinds: the token must not be used.
            StaleError: It is not known whether it may.
            PredicateError: The application's own check failed.
            KeysUnavailableError: The keys of its issuer were never fetched.
            ValueError: `on_stale` is none of the three.
        """
        return await self._checker.authenticate(encoded, token_type, on_stale)

    async def verify(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, revoked or not, of either type.

        Raises:
            InvalidTokenError: Or one of its kinds: it is not genuine, or has expired.
            KeysUnavailableError: The keys of its issuer were never fetched.
        """
        return await self._checker.verify(encoded)

    async def read(self, encoded: str) -> AccessToken | RefreshToken:
        """Return the token that `encoded` is, expired or revoked or not: to end its session.

        Raises:
            InvalidTokenError: It is not genuine.
            KeysUnavailableError: The keys of its issuer were never fetched.
        """
        return await self._checker.read(encoded)

    async def is_spent(self, token: AccessToken | RefreshToken) -> bool:
        """Return whether `token`, a refresh token, was exchanged. Redis is asked.

        True also within ``rotation_grace``, in which `rotate` would still answer it, and False for
        a session of which Redis has lost the record.

        Raises:
            StaleError: It is not known.
        """
        return await self._rotation.is_spent(token)

    def sign_in_age(self, token: AccessToken | RefreshToken) -> float:
        """Return how many seconds ago the owner of `token` signed in (OpenID Connect, auth_time).

        Where the token does not say when he did, it is infinite.
        """
        if token.auth_time is None:
            return math.inf
        return self._clock.wall() - token.auth_time

    def guard(
        self, token: AccessToken | RefreshToken, *, on_stale: OnStale | None = None
    ) -> OpenGuard:
        """Return an ``async with`` that ends its body when `token` is revoked or expires.

        For what stands open on the strength of a token: a WebSocket, a stream of events, a long
        poll. The body is cancelled at its next ``await``, within milliseconds of the revocation
        on any instance, and an error that says why leaves the ``async with``. The body must stay
        in the task that enters it; for a generator that others iterate over there is `guarded`.

        Args:
            token: The token.
            on_stale: What to do when the copy becomes too old; the setting by default. With
                ``accept`` the body goes on. Else it ends, and the client may ask anew.

        Raises:
            RevokedTokenError: When it is entered, or later.
            ExpiredTokenError: Likewise.
            StaleError: Likewise.
            NotReadyError: The bus is not running, or is closed meanwhile.
            ValueError: `on_stale` is none of the three, and no guard is returned.
            ConfigurationError: It is entered on another event loop than the bus's.
        """
        check_on_stale(on_stale)
        return OpenGuard(self._guards, self._checker, token, on_stale or self.settings.on_stale)

    def guarded(
        self,
        token: AccessToken | RefreshToken,
        source: AsyncIterable[Item],
        *,
        on_stale: OnStale | None = None,
    ) -> AsyncGenerator[Item]:
        """Yield what `source` yields, until `token` is revoked or expires.

        For a stream whose answer has begun, so that nothing but its end can tell. Unlike the body
        of a `guard`, it may be iterated over by several tasks in turn.

        Args:
            token: The token.
            source: For example an asynchronous generator; it is cancelled where it waits, and
                closed at the end.
            on_stale: As for `guard`.
        """
        check_on_stale(on_stale)
        return until_ended(lambda: self.guard(token, on_stale=on_stale), source)
