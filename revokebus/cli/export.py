"""The commands that move revocations from one Redis to another, or keep a copy of them."""

from __future__ import annotations

import contextlib
import os
import sys

# Typer reads the annotations of a command when it is called.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from revokebus.cli import connect, output, transfer
from revokebus.cli.connect import opened_store, perform, read_settings
from revokebus.cli.old_denylist import UUIDS, OldDenylist
from revokebus.cli.options import AsJson, EnvFile, Issuer
from revokebus.clock import SystemClock
from revokebus.store.audit import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OLD_URL = "OLD_REDIS_URL"


def export(
    *,
    to: Annotated[
        Path | None, typer.Option("--output", help="A new file; standard output by default.")
    ] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Write every live revocation as a line of JSON."""
    settings, clock = read_settings(env_file, needs_keys=False), SystemClock()

    async def work() -> transfer.Exported:
        async with opened_store(settings) as redis:
            with transfer.new_file(to) as file, _progress("Read") as progress:
                found = {each.check: each.level for each in await audit(redis, settings, clock)}
                may_lack = found["eviction"] != "ok"
                return await transfer.export(redis, file, progress, may_lack=may_lack)

    try:
        exported = perform(work())
    except FileExistsError:
        connect.say(f"{to} exists already")
        raise typer.Exit(connect.USAGE) from None
    _print_count("exported", exported.written, as_json=as_json and to is not None)
    if exported.unreadable:
        connect.say(
            f"{exported.unreadable:,} records are left out, because they cannot be read: another "
            "version has written them, or a stranger"
        )
        raise typer.Exit(connect.REFUSED)


def import_(
    file: Annotated[
        Path | None,
        typer.Argument(help="Lines of export; standard input by default.", exists=True),
    ] = None,
    *,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Record and push revocations that were exported; what is there already stays."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> int:
        with contextlib.ExitStack() as opened:
            lines = sys.stdin if file is None else opened.enter_context(file.open())
            revocations = list(transfer.read_lines(lines))  # all of them are well, or none is taken
        async with opened_store(settings) as redis:
            connect.compare(await audit(redis, settings, SystemClock()))
            with _progress("Written", len(revocations)) as progress:
                return await transfer.write_all(redis.store, revocations, SystemClock(), progress)

    _print_count("imported", perform(work()), as_json=as_json)


def import_jtis(
    *,
    prefix: Annotated[str, typer.Option(help="What stands before the id in a key.")] = "",
    pattern: Annotated[str, typer.Option(help="What an id looks like, as in SCAN.")] = UUIDS,
    value: Annotated[
        str, typer.Option(help="What the key of a revoked one holds; * for anything.")
    ] = "true",
    issuer: Issuer = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Take over a denylist of another library: a key in Redis for each revoked jti.

    Its URL is read from the variable OLD_REDIS_URL, or asked for. The keys stay as they are.
    """
    settings = read_settings(env_file, needs_keys=False)
    url = os.environ.get(_OLD_URL) or typer.prompt("Its Redis", hide_input=True, err=True)
    old = OldDenylist(url, prefix, pattern, None if value == "*" else value)
    of, clock = settings.own_issuer if issuer is None else issuer, SystemClock()

    async def work() -> tuple[int, int]:
        count = passed_over = 0
        async with opened_store(settings) as redis:
            connect.compare(await audit(redis, settings, clock))
            with _progress("Taken over") as progress:
                async for some in old.revocations(settings, of, clock):
                    written = some.revocations
                    count += await transfer.write_all(redis.store, written, clock, lambda _: None)
                    passed_over += some.passed_over
                    progress(count)
        return count, passed_over

    count, passed_over = perform(work())
    _print_count("imported", count, as_json=as_json)
    if passed_over:
        connect.say(f"{passed_over:,} keys look like ids and hold something else (see --value)")
    if not count:
        connect.say("nothing was found there; is OLD_REDIS_URL right, database included?")
        raise typer.Exit(connect.REFUSED)


def _print_count(verb: str, count: int, *, as_json: bool) -> None:
    if as_json:
        output.print_json({verb: count})
    else:
        output.errors.print(f"{count:,} revocations {verb}")


@contextlib.contextmanager
def _progress(verb: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    columns = (SpinnerColumn(), TextColumn(verb), BarColumn(), MofNCompleteColumn())
    shown = output.errors.is_terminal
    with Progress(*columns, console=output.errors, disable=not shown) as bars:
        task = bars.add_task(verb, total=total)
        yield lambda done: bars.update(task, completed=done)
