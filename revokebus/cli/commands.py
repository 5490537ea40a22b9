"""The commands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

# Typer reads the annotations of a command when it is called.
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from revokebus.audit import audit
from revokebus.claims import is_identifier
from revokebus.cli import connect, output, transfer
from revokebus.cli.connect import opened_engine, opened_store, perform, read_settings
from revokebus.clock import SystemClock
from revokebus.errors import InvalidTokenError, WireError
from revokebus.presence import VERSION, describe
from revokebus.revocation import ALWAYS, Target, targets_of
from revokebus.verifier import Verifier
from revokebus.wire import decode_message, decode_payload, encode_row_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from revokebus.engine import Engine
    from revokebus.report import Finding, InstanceStatus, Receipt
    from revokebus.revocation import Revocation
    from revokebus.settings import Settings

app = typer.Typer(
    name="revokebus",
    help="Revoke tokens, and look after the instances that refuse them. What to connect to is read "
    "from the REVOKEBUS_* variables that the application has, too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file", exists=True, dir_okay=False, help="A file of REVOKEBUS_* variables."
    ),
]
Before = Annotated[
    str | None,
    typer.Option(
        "--issued-before",
        metavar="MOMENT",
        help="Only tokens from before it: RFC 3339, as 2026-01-31T12:00:00Z.",
    ),
]
Issuer = Annotated[str | None, typer.Option(help="The iss of the tokens; by default our own.")]
Confirm = Annotated[
    bool, typer.Option(help="Wait until every instance has answered that it refuses them.")
]
Timeout = Annotated[
    float, typer.Option(help="Seconds to wait for these answers.", min=0.01, max=60)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Revoke nothing; say who would be told.")]


def run() -> None:
    """Run the command that the arguments name."""
    logging.getLogger("revokebus").setLevel(logging.ERROR)  # `doctor` has what the audit says
    try:
        app()
    except BrokenPipeError:  # by `| head`
        _discard_output()
        sys.exit(connect.BROKEN_PIPE)
    except (OSError, UnicodeError) as error:
        connect.say(str(error))
        _discard_output()
        sys.exit(connect.USAGE)


def _discard_output() -> None:
    """Let what could not be written go, or Python tries once more as it ends, and says so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Revoke tokens, and look after the instances that refuse them."""
    if show:
        typer.echo(VERSION)
        raise typer.Exit


# Revoking


@app.command()
def revoke(
    *,
    jti: Annotated[str | None, typer.Option(help="The id of the token, in place of it.")] = None,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke one token. It is asked for, or read from standard input, never from the arguments."""
    check_jti(jti)
    token = None if jti is not None else read_token()

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        if jti is not None:
            return await bus.revoke_claim("jti", jti, **options)
        return await bus.revoke(token or "", **options)

    _revoke(work, confirm, timeout, env_file, as_json=as_json, needs_keys=token is not None)


@app.command()
def revoke_session(
    session_id: Annotated[str, typer.Argument(help="The sid of its tokens.")],
    *,
    issued_before: Before = None,
    issuer: Issuer = None,
    dry_run: DryRun = False,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke every token of a session."""
    before = read_moment(issued_before)

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        return await bus.revoke_session(
            session_id, issued_before=before, issuer=issuer, dry_run=dry_run, **options
        )

    _revoke(work, confirm, timeout, env_file, as_json=as_json)


@app.command()
def revoke_subject(
    subject: Annotated[str, typer.Argument(help="The sub of the tokens.")],
    *,
    issued_before: Before = None,
    issuer: Issuer = None,
    dry_run: DryRun = False,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign somebody out everywhere."""
    before = read_moment(issued_before)

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        return await bus.revoke_subject(subject, before, issuer=issuer, dry_run=dry_run, **options)

    _revoke(work, confirm, timeout, env_file, as_json=as_json)


@app.command()
def revoke_all(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether you are sure.")] = False,
    issued_before: Before = None,
    dry_run: DryRun = False,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign everybody out."""
    before = read_moment(issued_before)
    if not yes and not dry_run:
        typer.confirm(
            "Every token of every user stops working. Are you sure?", abort=True, err=True
        )

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        return await bus.revoke_all(before, dry_run=dry_run, **options)

    _revoke(work, confirm, timeout, env_file, as_json=as_json)


def _revoke(
    work: Callable[[Engine, dict[str, Any]], Awaitable[Receipt]],
    confirm: bool,  # noqa: FBT001 - handed on
    timeout: float,
    env_file: Path | None,
    *,
    as_json: bool,
    needs_keys: bool = False,
) -> None:
    settings = read_settings(env_file, needs_keys=needs_keys)
    options: dict[str, Any] = {"timeout": timeout}
    if confirm:
        options["confirm"] = "fleet"

    async def perform_it() -> tuple[Receipt, str | None]:
        async with opened_engine(settings) as bus:
            return await work(bus, options), bus.status().instance

    with output.errors.status("Revoking ..."):
        receipt, own = perform(perform_it())
    output.print_receipt(receipt, own, as_json=as_json)
    if receipt.confirmations and {each.instance for each in receipt.confirmations} == {own}:
        connect.say(f"no instance has the namespace {settings.namespace} (REVOKEBUS_NAMESPACE)")
    if receipt.silent:
        connect.say("not every instance has answered; those may accept it until they are stale")
        raise typer.Exit(connect.REFUSED)


# Looking


@app.command()
def check(
    jti: Annotated[
        str | None, typer.Argument(help="The id of a token; without it the token is asked for.")
    ] = None,
    *,
    issuer: Issuer = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a token is refused, by what Redis has. The exit status is 0 if it is valid."""
    check_jti(jti)
    token = read_token() if jti is None else None
    settings = read_settings(env_file, needs_keys=token is not None)
    if token is None:
        of = settings.home_issuer if issuer is None else issuer
        refused = perform(_is_recorded(settings, [Target(of, "jti", "string", jti or "")], 0.0))
        _say_verdict("revoked" if refused else "no record", {"jti": jti}, as_json=as_json)
    else:
        verdict, told = perform(_judge(settings, token))
        _say_verdict(verdict, told, as_json=as_json)


def _say_verdict(verdict: str, told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"verdict": verdict, **told})
    else:
        details = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
        output.print_line(f"{verdict}: {details}" if details else verdict)
    if verdict == "no record":
        connect.say("its session, its user and cut-offs were not looked at: pipe in the token")
    if verdict != "valid":
        raise typer.Exit(connect.REFUSED)


async def _is_recorded(settings: Settings, targets: list[Target], since: float) -> bool:
    async with opened_store(settings) as store:
        return await store.refuses(targets, since, "")


async def _judge(settings: Settings, encoded: str) -> tuple[str, dict[str, Any]]:
    verifier = Verifier(settings, SystemClock())
    await asyncio.gather(*(keyring.refresh() for keyring in verifier.remote_keyrings))
    try:
        token = verifier.verify_signature(encoded)
    except InvalidTokenError:
        return "invalid", {}
    told = {
        "type": token.type,
        "sub": token.subject,
        "jti": token.jti,
        "sid": token.session_id,
        "expires": output.moment(token.expires_at),
    }
    names = (*ALWAYS, *settings.revocable_claims)
    targets = targets_of(token.verified_claims, token.issuer, names)
    if await _is_recorded(settings, targets, token.since):
        return "revoked", told
    try:
        verifier.check_time(token)
    except InvalidTokenError as error:
        return str(error), told
    return "valid", told


@app.command()
def status(*, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show every instance and its copy. The exit status is 1 if one is stale or silent."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> list[InstanceStatus]:
        async with opened_store(settings) as store:
            return describe(await store.presents(), own="")

    fleet = perform(work())
    output.print_fleet(fleet, as_json=as_json)
    if not fleet:
        connect.say(f"no instance has the namespace {settings.namespace} (REVOKEBUS_NAMESPACE)")
    if not fleet or any(each.state == "stale" or each.is_silent for each in fleet):
        raise typer.Exit(connect.REFUSED)


@app.command()
def doctor(*, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Look for what endangers the promises. The exit status is 1 if something does."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> list[Finding]:
        async with opened_store(settings) as store:
            return await audit(store, settings, SystemClock())

    findings = perform(work())
    output.print_findings(findings, as_json=as_json)
    if any(finding.level != "ok" for finding in findings):
        raise typer.Exit(connect.REFUSED)


@app.command()
def watch(
    *,
    count: Annotated[int | None, typer.Option(help="End after so many.", min=1)] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Print revocations as they are pushed, until Ctrl-C."""
    settings = read_settings(env_file, needs_keys=False)
    perform(_watch(settings, count, as_json=as_json))


async def _watch(settings: Settings, count: int | None, *, as_json: bool) -> None:
    async with opened_store(settings) as store, store.subscribe() as messages:
        connect.say("watching; Ctrl-C ends it")
        printed = 0
        async for message in messages:
            for position, revocation in _revocations(message):
                output.print_revocation(revocation, position, as_json=as_json)
                printed += 1
                if printed == count:
                    return


def _revocations(data: bytes) -> list[tuple[str, Revocation]]:
    try:
        message = decode_message(data)
        position = encode_row_id(message.row)
        return [(position, revocation) for revocation in decode_payload(message.payload)]
    except WireError:
        return []


# Moving


@app.command("export")
def export_(
    *,
    to: Annotated[
        Path | None, typer.Option("--output", help="A new file; standard output by default.")
    ] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Write every live revocation as a line of JSON."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> int:
        async with opened_store(settings) as store:
            with contextlib.ExitStack() as opened:
                file = sys.stdout if to is None else opened.enter_context(to.open("x"))
                count = await transfer.export(store, file, opened.enter_context(_progress("Read")))
                file.flush()
                return count

    try:
        count = perform(work())
    except FileExistsError:
        connect.say(f"{to} exists already")
        raise typer.Exit(connect.USAGE) from None
    _say_count("exported", count, as_json=as_json and to is not None)


@app.command("import")
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
        async with opened_store(settings) as store:
            with _progress("Written", len(revocations)) as progress:
                return await transfer.write_all(store, revocations, SystemClock(), progress)

    _say_count("imported", perform(work()), as_json=as_json)


def _say_count(verb: str, count: int, *, as_json: bool) -> None:
    if as_json:
        output.print_json({verb: count})
    else:
        output.errors.print(f"{count:,} revocations {verb}")


@contextlib.contextmanager
def _progress(verb: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    columns = (SpinnerColumn(), TextColumn(verb), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=output.errors) as bars:
        task = bars.add_task(verb, total=total)
        yield lambda done: bars.update(task, completed=done)


@app.command()
def demo(
    *,
    serve: Annotated[bool, typer.Option("--serve", help="Leave them up until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a revocation reach three instances that are started for it."""
    try:
        from revokebus.demo.command import demonstrate_all  # noqa: PLC0415 - only with the extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("revokebus"):
            raise
        connect.say("the demonstration needs the extra demo: pip install 'revokebus[demo]'")
        raise typer.Exit(connect.USAGE) from None
    raise typer.Exit(demonstrate_all(serve=serve, as_json=as_json))


# Helpers of several commands


def read_token() -> str:
    """Return a token from standard input, or from whoever sits there, who does not see it.

    Raises:
        typer.Exit: There is none.
    """
    if sys.stdin.isatty():
        token: str = typer.prompt("Token", hide_input=True, err=True)
    else:
        token = sys.stdin.read()
    if not token.strip():
        connect.say("no token on standard input")
        raise typer.Exit(connect.USAGE)
    return token.strip()


def check_jti(jti: str | None) -> None:
    """Check that `jti`, where there is one, is the id of a token and not the token.

    Raises:
        typer.Exit: It is not.
    """
    if jti is not None and jti.count(".") == 2 and jti.startswith("ey"):  # noqa: PLR2004 - a JWT
        connect.say("this looks like a token, and others can read arguments: pipe it in instead")
        raise typer.Exit(connect.USAGE)
    if jti is not None and not is_identifier(jti):
        connect.say("an id has 1 to 4096 characters")
        raise typer.Exit(connect.USAGE)


def read_moment(text: str | None) -> datetime | None:
    """Return the moment that `text` is (RFC 3339).

    Raises:
        typer.BadParameter: It is none.
    """
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min  # noqa: DTZ901 - refused below
    if at.tzinfo is None:
        raise typer.BadParameter("a moment is written with its zone: 2026-01-31T12:00:00Z")
    return at
