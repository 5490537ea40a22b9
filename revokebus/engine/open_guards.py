"""What stands open on the strength of a token: WebSockets, streams, long polls.

A revocation finds the guards that it ends by what it is about. No guard has a task or polls: each
has a timer for its token's expiry, and all share one for the age of the copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Self, TypeVar

from revokebus.errors import (
    AuthenticationError,
    ExpiredTokenError,
    NotReadyError,
    RevokeBusError,
    RevokedTokenError,
    StaleError,
    UnavailableError,
)
from revokebus.protocol.revocation import targets_of
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
    from types import TracebackType

    from revokebus.clock import Clock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.engine.checker import Checker
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.settings.settings import OnStale, Settings
    from revokebus.tokens.claims import AccessToken, RefreshToken

logger = logging.getLogger("revokebus")

Item = TypeVar("Item")

_A_MOMENT = 0.001
_LONGEST_WAIT = 86_400.0


class OpenGuards:
    """The guards that are open in this process.

    Args:
        settings: What tokens can be revoked by, and the bound on the age of the copy.
        clock: Tells when a token expires.
        denylist: Tells of revocations, as long as there is a guard to be told.
        freshness: Tells whether the copy may decide.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        denylist: Denylist,
        freshness: Freshness,
    ) -> None:
        self._names = settings.revocable_names
        self._leeway = settings.leeway
        self._clock = clock
        self._denylist = denylist
        self._freshness = freshness
        self._open: dict[OpenGuard, list[Target]] = {}
        self._about: defaultdict[Target, set[OpenGuard]] = defaultdict(set)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def remaining(self, token: AccessToken | RefreshToken) -> float:
        """Return for how many seconds `token` may still be used."""
        return token.expires_at + self._leeway - self._clock.wall()

    def add(self, guard: OpenGuard) -> None:
        """Tell `guard` from now on."""
        targets = targets_of(guard.token.verified_claims, guard.token.issuer, self._names)[:-1]
        self._open[guard] = targets
        for target in targets:
            self._about[target].add(guard)
        self._denylist.on_add = self.revoked
        if self._timer is None:
            self._look_at_age_later()

    def discard(self, guard: OpenGuard) -> None:
        """Tell `guard` nothing any more."""
        for target in self._open.pop(guard, ()):
            guards = self._about[target]
            guards.discard(guard)
            if not guards:
                del self._about[target]
        if not self._open:
            self._denylist.on_add = None
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def revoked(self, revocation: Revocation) -> None:
        """End the guards whose token `revocation` refuses."""
        found: Iterable[OpenGuard] = self._open
        if revocation.claim in self._names:
            found = self._about.get(revocation.target, ())
        for guard in list(found):
            token = guard.token
            claims = token.verified_claims
            if revocation.refuses(claims, issuer=token.issuer, since=token.since):
                guard.end(RevokedTokenError())

    def close(self) -> None:
        """End all: nothing would tell them any more."""
        for guard in list(self._open):
            guard.end(NotReadyError("RevokeBus has been closed"))

    def _watch_age(self) -> None:
        """End the guards that a copy so old cannot answer for, or look again when it may be.

        And those whose token expired while the machine was suspended, or by a step of its clock.
        """
        is_stale = not self._freshness.is_fresh
        for guard in list(self._open):
            if self.remaining(guard.token) <= 0:
                guard.end(ExpiredTokenError())
            elif is_stale and guard.policy != "accept":
                guard.end(StaleError("The revocations are too old to go on"))
        self._look_at_age_later()

    def _look_at_age_later(self) -> None:
        # Where it is stale already, whoever begins has been told by its policy that it may.
        freshness = self._freshness
        # An original never ages, and so is looked at as rarely as one that was proven just now.
        left = freshness.seconds_left if freshness.is_fresh else freshness.bound
        again = min(left, freshness.bound) + _A_MOMENT
        self._timer = asyncio.get_running_loop().call_later(again, self._watch_age)


class OpenGuard:
    """An ``async with`` whose body ends when its token is revoked or expires.

    Args:
        guards: Where it is told of revocations.
        checker: Says whether the token may be used at the beginning.
        token: The token.
        policy: What to do when the copy is too old.
    """

    def __init__(
        self,
        guards: OpenGuards,
        checker: Checker,
        token: AccessToken | RefreshToken,
        policy: OnStale,
    ) -> None:
        self.token = token
        self.policy = policy
        self._guards = guards
        self._checker = checker
        self._task: asyncio.Task[object] | None = None
        self._timeout = asyncio.timeout(None)
        self._expiry: asyncio.TimerHandle | None = None
        self._why: RevokeBusError | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a guard is for one `async with`; call bus.guard again")
        self._task = asyncio.current_task()
        try:
            self._checker.require_loop()
            if self._checker.is_checked(self.token):
                self._guards.add(self)  # before it is checked, so that nothing falls in between
            await self._checker.require_unrevoked(self.token, self.policy)
            if self._guards.remaining(self.token) <= 0:
                raise ExpiredTokenError
            if self._why is not None:
                raise self._why
            await self._timeout.__aenter__()
        except BaseException as error:
            self._guards.discard(self)
            if isinstance(error, AuthenticationError | UnavailableError):
                self._why = error
            raise
        self._wait_for_expiry()
        return self

    @property
    def why(self) -> RevokeBusError | None:
        """Why it ended, or did not begin; None where it was not the token."""
        return self._why

    def _wait_for_expiry(self) -> None:
        # Always by the timer, which alone decides: `end` knows by it that the body has begun.
        remaining = max(0.0, min(self._guards.remaining(self.token), _LONGEST_WAIT))
        self._expiry = asyncio.get_running_loop().call_later(remaining, self._look_at_clock)

    def _look_at_clock(self) -> None:
        if self._guards.remaining(self.token) <= 0:
            self.end(ExpiredTokenError())
        else:
            self._wait_for_expiry()

    def end(self, why: RevokeBusError) -> None:
        """End the body, which leaves with `why`; the first reason counts."""
        self._forget()
        if self._why is not None:
            return
        self._why = why
        if self._expiry is None:
            return  # the first check is under way, and looks at the reason
        if self._task is not None and self._task.done():
            logger.error(
                "revokebus: the body of a guard has left the task that entered it, so it cannot be "
                "ended (%s); use bus.guarded for what is iterated over in several tasks",
                why,
                extra=event("guard_not_ended"),
            )
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def _forget(self) -> None:
        self._guards.discard(self)
        if self._expiry is not None:
            self._expiry.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._why or ExpiredTokenError() from None


async def until_ended(
    make: Callable[[], OpenGuard], source: AsyncIterable[Item]
) -> AsyncGenerator[Item]:
    """Yield what `source` yields, each item waited for in a guard, until one of them ends.

    Args:
        make: Makes a guard.
        source: Is closed at the end, if it can be.
    """
    items = aiter(source)
    try:
        while True:
            guard = make()
            try:
                async with guard:
                    item = await anext(items)
            except StopAsyncIteration:
                return
            except RevokeBusError:
                if guard.why is None:  # the source's own
                    raise
                return
            yield item
    finally:
        if (close := getattr(items, "aclose", None)) is not None:
            await close()
