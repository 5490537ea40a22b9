"""Live revocations as JSON lines: to move them to another Redis, or to keep a copy."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from revokebus.cli.output import as_dict
from revokebus.errors import StoreError, WireError
from revokebus.wire import decode_payload, revocation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

    from revokebus.clock import Clock
    from revokebus.revocation import Revocation
    from revokebus.store import Store

_FIELDS = frozenset({"iss", "claim", "value", "expires_at", "issued_before"})
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
    path.open("x").close()  # so that nobody else makes it meanwhile
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


async def export(store: Store, output: TextIO, progress: Callable[[int], None]) -> Exported:
    """Write every record as a line, some perhaps twice.

    Args:
        store: Where they are.
        output: Where to.
        progress: Is told how many were written so far.

    Raises:
        StoreError: Redis could not be read to the end, has nothing, or may lack what instances
            are writing back to it.
    """
    written = unreadable = 0
    epoch = await store.settled_epoch()
    async for payloads in store.listing.records():
        for payload in payloads:
            revocations = _decoded(payload)
            unreadable += not revocations
            for revocation in revocations:
                output.write(json.dumps(as_dict(revocation), ensure_ascii=True) + "\n")
                written += 1
        progress(written)
    if await store.settled_epoch() != epoch:
        raise StoreError("Redis has lost its data meanwhile, so this would not be all of it")
    return Exported(written, unreadable)


def _decoded(payload: bytes | None) -> list[Revocation]:
    try:
        return decode_payload(payload or b"")
    except WireError:
        return []


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
            if not isinstance(fields, dict) or set(fields) != _FIELDS:
                raise ValueError(f"an object with {', '.join(sorted(_FIELDS))} is expected")
            names = ("iss", "claim", "value", "expires_at", "issued_before")
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
    live = [each for each in revocations if each.expires_at > clock.wall()]
    for start in range(0, len(live), _AT_ONCE):
        await store.write(live[start : start + _AT_ONCE], "")
        progress(min(start + _AT_ONCE, len(live)))
    return len(live)
