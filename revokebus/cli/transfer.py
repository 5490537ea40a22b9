"""Live revocations as JSON lines: to move them to another Redis, or to keep a copy."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TextIO, cast

from revokebus.cli.output import as_dict
from revokebus.errors import StoreError, WireError
from revokebus.protocol.wire import decode_payload, revocation_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from revokebus.clock import Clock
    from revokebus.protocol.revocation import Revocation
    from revokebus.store.parts import StoreParts
    from revokebus.store.store import Store

_FIELDS = ("iss", "claim", "value", "expires_at", "issued_before")
_MORE_FIELDS = (*_FIELDS, "kept", "kept_issued_before")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        written: How many lines were written.
        unreadable: How many records were left out because they cannot be read.
    """

    written: int
    unreadable: int


@contextlib.contextmanager
def new_file(path: Path | None) -> Iterator[TextIO]:
    """Open a file that is there once the body has ended, with all of it, or not at all.

    Args:
        path: Where; standard output where it is None.

    Raises:
        FileExistsError: There is a file.
    """
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    if path.exists():  # which is better said before the work than after it
        raise FileExistsError
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", suffix=".part") as file:
        yield cast("TextIO", file)
        file.flush()
        os.link(file.name, path)  # fails if it is there meanwhile


async def export(
    redis: StoreParts, output: TextIO, progress: Callable[[int], None], *, may_lack: bool
) -> Exported:
    """Write every record as a line, some perhaps twice.

    Args:
        redis: Where they are.
        output: Where to.
        progress: Is told how many were written so far.
        may_lack: Whether Redis may have evicted records; the log is then read as well.

    Raises:
        StoreError: Redis could not be read to the end, has nothing, or may lack what instances
            are writing back to it.
    """
    written = unreadable = 0
    epoch = await redis.store.settled_epoch()
    async for payloads in _everything(redis, may_lack=may_lack):
        for payload in payloads:
            revocations = _decoded(payload)
            unreadable += revocations is None
            for revocation in revocations or ():
                output.write(json.dumps(as_dict(revocation), ensure_ascii=True) + "\n")
                written += 1
        progress(written)
    if await redis.store.settled_epoch() != epoch:
        raise StoreError("Redis has lost its data meanwhile, so this would not be all of it")
    return Exported(written, unreadable)


async def _everything(
    redis: StoreParts, *, may_lack: bool
) -> AsyncIterator[Sequence[bytes | None]]:
    position = await redis.store.position()
    async for records in redis.listing.records():
        yield records
    if may_lack:
        async for entries in redis.listing.history(position):
            yield entries


def _decoded(payload: bytes | None) -> list[Revocation] | None:
    try:
        return decode_payload(payload or b"")
    except WireError:
        return None


def read_lines(lines: Iterable[str]) -> Iterator[Revocation]:
    """Yield the revocations of a file that `export` has written.

    Raises:
        ValueError: A line is none; the message has its number.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
            is_object = isinstance(fields, dict)
            names = _MORE_FIELDS if is_object and "kept" in fields else _FIELDS
            if not is_object or set(fields) != set(names):
                raise ValueError(f"an object with {', '.join(sorted(names))} is expected")
            yield revocation_of([fields[name] for name in names])
        except WireError as error:
            raise ValueError(f"line {number}: {error.kind} is not as it must be") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from None


async def write_all(
    store: Store, revocations: list[Revocation], clock: Clock, progress: Callable[[int], None]
) -> int:
    """Record and push those that are still live; return how many.

    Args:
        store: Where to.
        revocations: What to write; what is recorded already is only lengthened.
        clock: Tells what has expired.
        progress: Is told how many were written so far.

    Raises:
        StoreError: Redis refuses; what was written before stays.
    """
    live, epoch = [each for each in revocations if each.expires_at > clock.wall()], ""
    for start in range(0, len(live), _AT_ONCE):
        written = await store.writes.write(live[start : start + _AT_ONCE], epoch)
        epoch = written.epoch  # if Redis loses its data meanwhile, the next part is refused
        progress(min(start + _AT_ONCE, len(live)))
    return len(live)
