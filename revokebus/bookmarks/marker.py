"""Writes bookmarks at the primary, while it is this instance's turn."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import StoreError
from revokebus.scripts import bookmarks
from revokebus.store.settling import TURN_MILLISECONDS, settling_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from revokebus.bookmarks.follower import Follower
    from revokebus.clock import Clock
    from revokebus.connection.client import Client
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.names import Names
    from revokebus.settings.settings import Settings
    from revokebus.telemetry.conditions import Conditions

BOOKMARKS_EVERY = 0.5
"""How many seconds apart bookmarks are."""

_TURN_SECONDS, _MISSED_SECONDS = 2.0, 1.5
_SHORTEST_REST = 0.02
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
_TOLERATED, _DRIFT, _MEASURED_EVERY = 0.1, 1.001, 10.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """What time it was at the primary.

    Attributes:
        clock: The name of its clock.
        sent: When it was asked, in elapsed seconds.
        time: What it said.
        way: How long the answer took, in seconds.
    """

    clock: str
    sent: float
    time: float
    way: float


class Marker:
    """Writes bookmarks, two a second, until it is cancelled.

    One instance of a fleet does. The others notice where no new bookmark comes, and one of them
    takes its turn.

    Args:
        settings: How long the slowest instance needs to notice what is new.
        clock: Tells how much time has passed.
        requests: Sends them to the primary.
        names: The names of what is written.
        follower: Sees bookmarks.
        epoch: Returns the data set that the copy belongs to; empty where that is not known.
        notice: Is called where the primary has another data set, or one that is not settled.
        conditions: Are told what is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        requests: Requests,
        names: Names,
        follower: Follower,
        epoch: Callable[[], str],
        notice: Callable[[], None],
        conditions: Conditions,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._requests = requests
        self._names = names
        self._follower = follower
        self._epoch = epoch
        self._notice = notice
        self._conditions = conditions
        self._measured: _Measured | None = None
        self._has_turn = self._was_late = False
        self._pause, self._not_before = _SHORTEST_PAUSE, -math.inf

    async def mark_forever(self) -> None:
        """Write a bookmark wherever one is due."""
        while True:
            began = self._clock.elapsed()
            is_marked = True
            if self._is_due(began):
                try:
                    is_marked = await self._mark()
                except StoreError as error:
                    self._conditions.note("bookmarks", error)
                    self._lose_turn()
                else:
                    self._conditions.over("bookmarks")
            # With jitter where it is not its turn, so that a fleet does not ask at once.
            pause = BOOKMARKS_EVERY if self._has_turn else self._jitter()
            rest = pause - (self._clock.elapsed() - began)
            await asyncio.sleep(max(_SHORTEST_REST, rest if is_marked else 0.0))

    async def end_turn(self) -> None:
        """Let another instance go on at once.

        Raises:
            StoreError: It goes on after some seconds.
        """
        if self._has_turn:
            self._has_turn = False
            keys, args = [self._names.bookmarks], [self._names.instance]
            await self._requests.run(bookmarks.END_TURN, keys, args)

    @staticmethod
    def _jitter() -> float:
        return BOOKMARKS_EVERY * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret

    def _is_due(self, now: float) -> bool:
        if not self._epoch() or self._has_turn:
            return bool(self._epoch())
        _, seen_at = self._follower.seen
        if seen_at > self._not_before - self._pause:
            self._pause = _SHORTEST_PAUSE  # they come again
        return now >= max(seen_at + _MISSED_SECONDS, self._not_before)

    def _lose_turn(self) -> None:
        self._has_turn, self._measured = False, None
        self._not_before = self._clock.elapsed() + self._pause + self._jitter()
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _mark(self) -> bool:
        """Write a bookmark; return whether another attempt has time."""
        async with self._requests.deadline():
            # As before a tick: it counts for when Sentinels or the cluster confirmed the primary.
            await self._requests.primary.server(confirmed=True)
        sent = self._clock.elapsed()
        outcome, time = await self._requests.ask(lambda redis: self._ask(redis, sent))
        if outcome == b"taken":
            self._lose_turn()
            return True
        self._has_turn, self._pause = True, _SHORTEST_PAUSE
        known, way = self._measured, self._clock.elapsed() - sent
        if outcome == b"measured":
            self._measured = _Measured(secrets.token_hex(8), sent, float(time), way)
        elif outcome == b"marked" and known and sent > known.sent + _MEASURED_EVERY:
            self._measured = _Measured(known.clock, sent, float(time), way)
        elif outcome in (b"other", b"unsettled"):
            self._measured = None  # it may be another clock
            self._notice()
        elif outcome == b"late" and self._was_late:
            self._measured = None  # it is another clock, or has jumped
        self._was_late = outcome == b"late"
        return outcome not in (b"late", b"measured")

    async def _ask(self, redis: Client, sent: float) -> tuple[bytes, bytes]:
        names, known, primary = self._names, self._measured, self._requests.primary
        keys = [names.meta, names.log, names.hold, names.repair, names.bookmarks]
        settling = settling_milliseconds(self._settings, self._follower.instances)
        args: list[Argument] = [
            names.instance,
            math.ceil(1000 * _TURN_SECONDS),
            self._epoch(),
            settling,
            TURN_MILLISECONDS,
            primary.elected,
        ]
        if known is None:
            args += ["", 0, ""]
        else:
            error = _TOLERATED + 2 * known.way
            latest = known.time + _DRIFT * (sent - known.sent) + error
            # Nothing that is later than this is written, so that the moment is not too late.
            before = max(0.0, sent - primary.confirmed_at) + error + known.way
            args += [f"{latest:.6f}", f"{before:.6f}", known.clock]
        outcome, time = await bookmarks.MARK.run(redis, keys, args)
        return outcome, time
