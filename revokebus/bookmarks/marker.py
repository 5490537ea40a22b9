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

_TURN_SECONDS = 2.0
_SHORTEST_REST, _WAYS_MORE = 0.02, 4
_UNCONFIRMED_SECONDS, _WAYS_OF_A_LOOK_UP = 3.0, 8
_TOLERATED, _BACK, _DRIFT = 0.1, 0.02, 0.001
_MEASURED_EVERY, _MEASURED_AT_LEAST = 10.0, 60.0
_SLOWER, _NEAR = 1.5, 0.01


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

    One instance of a fleet does. The others find with a tick that the primary has no new one, and
    one of them takes its turn.

    Args:
        settings: How long the slowest instance needs to notice what is new.
        clock: Tells how much time has passed.
        requests: Sends them to the primary.
        names: The names of what is written.
        follower: Knows whether bookmarks are missed.
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
        self._way = 0.0

    async def mark_forever(self) -> None:
        """Write a bookmark wherever one is due."""
        while True:
            began, is_marked = self._clock.elapsed(), True
            try:
                is_marked = not self._epoch() or await self._mark()
            except Exception as error:  # noqa: BLE001 - a silent end would leave it to no one
                self._conditions.note("bookmarks", error)
                self._lose_turn()
            else:
                self._conditions.over("bookmarks")
            if self._has_turn:
                rest = BOOKMARKS_EVERY - (self._clock.elapsed() - began)
                await asyncio.sleep(max(_SHORTEST_REST, rest if is_marked else 0.0))
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait until one is missed, and then a moment, in which a nearer instance may write it."""
        self._follower.missed.clear()
        await self._follower.missed.wait()
        await asyncio.sleep(random.uniform(0.0, BOOKMARKS_EVERY) + _WAYS_MORE * self._way)  # noqa: S311 - not a secret

    async def end_turn(self) -> None:
        """Let another instance go on at once.

        Raises:
            StoreError: It goes on after some seconds.
        """
        if self._has_turn:
            self._has_turn = False
            keys, args = [self._names.bookmarks], [self._names.instance]
            await self._requests.run(bookmarks.END_TURN, keys, args)

    def _lose_turn(self) -> None:
        self._has_turn, self._measured = False, None

    async def _mark(self) -> bool:
        """Write a bookmark; return whether another attempt has time."""
        async with self._requests.deadline():
            # As before a tick: it counts for when Sentinels or the cluster confirmed the primary.
            await self._requests.primary.server(confirmed=True)
        sent = self._clock.elapsed()
        longest = _UNCONFIRMED_SECONDS + _WAYS_OF_A_LOOK_UP * self._way
        if sent - self._requests.primary.confirmed_at > longest:
            await self.end_turn()
            self._lose_turn()
            raise StoreError("neither Sentinels nor the cluster have confirmed the primary lately")
        self._has_turn = True  # whatever becomes of the answer
        outcome, time = await self._requests.ask(lambda redis: self._ask(redis, sent))
        self._way = self._clock.elapsed() - sent
        if outcome == b"taken":
            self._lose_turn()
            return True
        if outcome in (b"other", b"unsettled"):
            self._measured = None  # it may be another clock
            self._notice()
        elif outcome == b"early" or (outcome == b"late" and self._was_late):
            self._measured = None  # it is another clock, or has jumped
        elif outcome in (b"measured", b"marked"):
            self._measure(sent, float(time))
        self._was_late = outcome == b"late"
        return outcome not in (b"late", b"early", b"measured")

    def _measure(self, sent: float, time: float) -> None:
        known, way = self._measured, self._way
        if known is None:
            self._measured = _Measured(secrets.token_hex(8), sent, time, way)
        elif sent > known.sent + _MEASURED_EVERY:
            shift = time - known.time - (sent - known.sent)
            if abs(shift) > _TOLERATED + known.way + way or sent > known.sent + _MEASURED_AT_LEAST:
                self._measured = None  # by small steps, or all measurements since were slow
            elif way <= _SLOWER * known.way + _NEAR:
                self._measured = _Measured(known.clock, sent, time, way)

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
            args += ["", 0, "", 0]
        else:
            error, since = _TOLERATED + 2 * known.way, sent - known.sent
            latest = known.time + (1 + _DRIFT) * since + error
            earliest = known.time + (1 - _DRIFT) * since - known.way - _BACK
            # Nothing that is later, or earlier, than this is written; the moment is dated back by
            # what is between them, so that it is not too late.
            before = max(0.0, sent - primary.confirmed_at) + error + 2 * known.way + _BACK
            args += [f"{latest:.6f}", f"{before:.6f}", known.clock, f"{earliest:.6f}"]
        outcome, time = await bookmarks.MARK.run(redis, keys, args)
        return outcome, time
