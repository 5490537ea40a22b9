"""What the users of a fleet do: they are signed out, they are asked about, and they refresh."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from revokebus.errors import (
    NotDurableError,
    ReplayedTokenError,
    RevokeBusError,
    RevokedTokenError,
)
from revokebus.protocol.names import Names
from revokebus.protocol.revocation import Kept, Revocation, everything
from revokebus.protocol.wire import decode_payload
from revokebus.tokens.claims import RefreshToken
from tests.simulation.data import Stream
from tests.simulation.world import BEGAN, retrieve

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from revokebus.tokens.issuer import TokenPair
    from tests.simulation.checkers import Judge
    from tests.simulation.data import Data
    from tests.simulation.world import Instance, World

_NAMES = Names("revokebus")
_LIVES = 3600.0, 3600.0, 1500.0
_LONG = "x" * 3000
_USERS, _CLIENTS = 5, 3
_LONG_AGO = 1_000_000
_ASKED_EACH, _REFRESHED_EACH, _PATIENCE = 0.2, 0.6, 2.0
_RECENT = 30
_CALM = 4.0


@dataclass(frozen=True)
class Revoked:
    """Something that was revoked, and a token that it refuses.

    Attributes:
        name: What it is called in a trace.
        revocation: What was written.
        since: When the token was issued, in seconds since the epoch.
    """

    name: str
    revocation: Revocation
    since: float

    @cached_property
    def key(self) -> bytes:
        """The key of its record."""
        return _NAMES.record(self.revocation.target)

    @cached_property
    def claims(self) -> Mapping[str, object]:
        """The claims of the token."""
        return {self.revocation.claim: self.revocation.value, "iat": int(self.since)}

    def is_in(self, record: object) -> bool:
        """Return whether a record refuses the token."""
        if not isinstance(record, bytes) or self.revocation.issued_before is None:
            return isinstance(record, bytes)
        return self._is_said_by(record)

    def is_in_log(self, data: Data) -> bool:
        """Return whether a row of a server's log refuses the token."""
        log = data.get(_NAMES.log.encode())
        return isinstance(log, Stream) and any(
            self._is_said_by(fields[1]) for _, fields in log.entries
        )

    def _is_said_by(self, payload: bytes) -> bool:
        return any(
            each.target == self.revocation.target and each.cut_off >= self.revocation.cut_off
            for each in decode_payload(payload)
        )


def _drawn(rng: random.Random, number: int, now: float) -> Revoked:
    """Return what is revoked next: mostly a token, now and then a session or a user."""
    # As its issuer has it, whose clock is right.
    expires_at = float(int(now + rng.choice(_LIVES)))
    kind = rng.random()
    if kind < 0.7:
        value = f"token-{number}"
        return Revoked(value, Revocation("jti", value, expires_at), now)
    if kind < 0.8:
        value = f"session-{number}"
        return Revoked(value, Revocation("sid", value, expires_at), now)
    if kind < 0.85:
        value = f"long-{number}"
        return Revoked(value, Revocation("jti", value + _LONG, expires_at), now)
    if kind < 0.97:
        user = f"user-{number % _USERS}"
        name, cut_off = f"{user} before {number}", now + 0.5
        kept = Kept(f"session-of-{user}-{number % 3}") if number % 2 else None
        revocation = Revocation("sub", user, expires_at, cut_off, kept=kept)
        return Revoked(name, revocation, int(now) - 1)
    # Every token from long ago, each time of a second more.
    cut_off = BEGAN - _LONG_AGO + number
    name = f"everything before {number}"
    return Revoked(name, everything(expires_at, cut_off + 0.5), cut_off)


class Load:
    """Everything that is done beside the faults.

    Args:
        world: Where.
        judge: Is told what came of it.
        pause: Seconds between two revocations.
        with_sessions: Whether there are sessions that refresh.
    """

    def __init__(self, world: World, judge: Judge, pause: float, *, with_sessions: bool) -> None:
        self._world = world
        self._judge = judge
        self._pause = pause
        self._number = 0
        self._is_over = False
        self._clients = _CLIENTS if with_sessions else 0
        self._began = world.loop.time()

    async def run(self) -> None:
        """Go on until `stop`."""
        sessions = [self._refresh(f"client-{number}") for number in range(self._clients)]
        await asyncio.gather(self._revoke(), self._ask(), *sessions)

    def slow_down(self) -> None:
        """Do less, where nothing goes wrong any more."""
        self._pause *= _CALM

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_over = True

    def _someone(self) -> Instance | None:
        instance = self._world.rng.choice(self._world.instances)
        return instance if instance.is_up and instance.is_running else None

    async def _revoke(self) -> None:
        world = self._world
        while not self._is_over:
            await asyncio.sleep(self._pause * world.rng.uniform(0.5, 1.5))
            if (instance := self._someone()) is not None:
                self._number += 1
                now = BEGAN + world.loop.time() - self._began
                revoked = _drawn(world.rng, self._number, now)
                instance.spawn(self._revoke_at(instance, revoked))

    async def _revoke_at(self, instance: Instance, revoked: Revoked) -> None:
        try:
            receipt = await instance.engine._revoker.revoke([revoked.revocation])
        except NotDurableError:
            self._judge.promise(revoked, instance)
        except RevokeBusError:
            pass
        else:
            if receipt.revocations:
                self._judge.acknowledge(revoked, instance)

    async def _ask(self) -> None:
        """Ask Redis as instances do whose copy is too old, under ``on_stale="ask_redis"``."""
        world = self._world
        while not self._is_over:
            await asyncio.sleep(_ASKED_EACH * world.rng.uniform(0.5, 1.5))
            instance, known = self._someone(), self._judge.latest(_RECENT)
            if instance is not None and known:
                instance.spawn(self._ask_at(instance, world.rng.choice(known)))

    async def _ask_at(self, instance: Instance, revoked: Revoked) -> None:
        asked_at = self._world.loop.time()
        target = revoked.revocation.target
        try:
            refused = await instance.engine._backend.refuses([target], revoked.since)
        except RevokeBusError:
            return
        if not refused:
            self._judge.let_pass(revoked, instance, asked_at)

    async def _refresh(self, name: str) -> None:
        """Be a client that refreshes, and tries again where it gets no answer."""
        world = self._world
        token: str | None = None
        unanswered_at = math.inf
        while not self._is_over:
            await asyncio.sleep(_REFRESHED_EACH * world.rng.uniform(0.5, 1.5))
            if (instance := self._someone()) is None:
                continue
            if token is None:
                token = instance.engine.issue(name).refresh_token
                continue
            tried, began = token, world.loop.time()
            # An answer that does not come is waited for no longer, and may yet be given.
            task = instance.spawn(self._exchange(instance, token))
            task.add_done_callback(retrieve)
            await asyncio.wait({task}, timeout=_PATIENCE)
            if not task.done() or task.cancelled():
                unanswered_at = began
                continue
            # For longer than this nothing is promised to who has lost an answer.
            is_too_late = world.loop.time() - unanswered_at > instance.rotation_grace
            token = self._taken(name, token, task, is_too_late=is_too_late)
            if token != tried:
                unanswered_at = math.inf

    async def _exchange(self, instance: Instance, token: str) -> TokenPair:
        presented = await instance.engine.verify(token)
        assert isinstance(presented, RefreshToken)
        return await instance.engine.rotate(presented)

    def _taken(
        self, name: str, token: str, task: asyncio.Task[TokenPair], *, is_too_late: bool
    ) -> str | None:
        try:
            pair = task.result()
        except (ReplayedTokenError, RevokedTokenError) as error:
            if not is_too_late:
                self._judge.signed_out(name, error)
            return None
        except RevokeBusError:
            return token
        return pair.refresh_token
