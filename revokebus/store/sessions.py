"""The record of each session that refreshes, and the list of each user's sessions."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from revokebus.errors import OtherDataSetError, StoreError, UnsettledError
from revokebus.protocol.exchange import MOST_TIMES, Exchanged, Outcome, encode_session
from revokebus.protocol.revocation import Target
from revokebus.protocol.sign_in import MOST_LISTED, decode_sign_in, encode_sign_in
from revokebus.scripts import exchanging
from revokebus.store.settling import TURN_MILLISECONDS, settling_milliseconds, unsettled_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.exchange import Exchange, SessionRecord
    from revokebus.protocol.names import Names
    from revokebus.protocol.sign_in import SignIn
    from revokebus.settings.settings import Settings


class Sessions:
    """Reads and writes these records, for one event loop.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        settings: The deadlines.
        requests: Sends them.
        names: The names of keys.
    """

    def __init__(self, settings: Settings, requests: Requests, names: Names) -> None:
        self._settings = settings
        self._requests = requests
        self._names = names
        self._settling = settling_milliseconds(settings)

    async def exchange(
        self, session: Target, exchange: Exchange, unless: Sequence[Target], epoch: str
    ) -> Exchanged:
        """Exchange a refresh token, in one step. Trying again after a lost answer repeats it.

        Args:
            session: Its session.
            exchange: The token, and what its owner would be given.
            unless: What the token could be refused by.
            epoch: The data set that the copy belongs to; any where it is empty.

        Raises:
            OtherDataSetError: Redis has another data set, or none.
            UnsettledError: Others may be about to write back what would refuse it, or another
                attempt is under way, and it is not known whether that was answered.
        """
        names, settings = self._names, self._settings
        keys: list[bytes | str] = [names.meta, names.hold, names.repair, names.session(session)]
        keys += [names.record(target) for target in unless]
        if exchange.user is not None:
            keys.append(names.user(exchange.user))
        whole = "1" if exchange.since == math.floor(exchange.since) else "0"
        args: list[Argument] = [self._settling, TURN_MILLISECONDS, epoch]
        args += [exchange.generation, exchange.issued_at, exchange.since, whole]
        spans = settings.rotation_grace, settings.redis_timeout, exchange.life
        args += [math.ceil(1000 * seconds) for seconds in spans]
        args += [exchange.note, MOST_TIMES, exchange.jti, json.dumps(session.text)]
        args += [session.text, exchange.entry, MOST_LISTED, self._records(session.issuer)]
        primary = self._requests.primary
        outcome, *rest = await self._requests.ask(
            lambda redis: exchanging.EXCHANGE.run(redis, keys, [*args, primary.elected]), again=True
        )
        if outcome == b"other":
            raise OtherDataSetError
        if outcome == b"held" and (unsettled := unsettled_error(*rest)):
            raise unsettled
        exchanged = Exchanged(Outcome(outcome.decode()), *rest)
        if exchanged.outcome is Outcome.UNSETTLED:
            raise UnsettledError("the token is being exchanged at this moment")
        return exchanged

    async def delivered(self, session: Target, generation: int) -> None:
        """Note that the pair of this generation is here, so that a client can be answered."""
        keys: list[bytes | str] = [self._names.session(session)]
        await self._requests.run(exchanging.DELIVERED, keys, [generation], again=True)

    async def generation(self, session: Target) -> int | None:
        """Return which generation of a session's tokens was issued last; None where none is known.

        Raises:
            StoreError: The record cannot be read.
        """
        held = await self._requests.call("GET", self._names.session(session))
        if held is None:
            return None
        number = held.partition(b" ")[0]
        if not number.isdigit():
            raise StoreError("the session's record cannot be read")
        return int(number)

    async def list_one(self, user: Target, sign_in: SignIn, life: float) -> None:
        """Put a session on its user's list, which lives `life` seconds at least."""
        keys: list[bytes | str] = [self._names.user(user)]
        args: list[Argument] = [sign_in.session_id, encode_sign_in(sign_in)]
        args += [math.ceil(1000 * life), MOST_LISTED, self._records(user.issuer)]
        await self._requests.run(exchanging.SIGN_IN, keys, args, again=True)

    def _records(self, issuer: str) -> bytes:
        """Return how the record of a session that was revoked begins; its ``sid`` follows."""
        return self._names.record(Target(issuer, "sid", "string", ""))

    async def listed(self, user: Target) -> list[SignIn]:
        """Return the sessions on a user's list that have not expired, revoked ones among them."""
        keys: list[bytes | str] = [self._names.user(user)]
        held = await self._requests.run(exchanging.SIGN_INS, keys, [], again=True)
        found = (decode_sign_in(*each) for each in zip(held[::2], held[1::2], strict=True))
        return [each for each in found if each is not None]

    async def restore(self, sessions: Mapping[Target, tuple[SessionRecord, float]]) -> None:
        """Write back what was exchanged and delivered lately, where Redis knows less.

        Args:
            sessions: The record of each, and for how many seconds it must live.
        """
        args: list[Argument] = []
        for record, life in sessions.values():
            args += [record.generation, math.ceil(1000 * life), encode_session(record)]
        keys = [self._names.session(session) for session in sessions]
        await self._requests.run(exchanging.RESTORE, keys, args, again=True)
