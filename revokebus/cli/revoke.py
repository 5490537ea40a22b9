"""The commands that revoke."""

from __future__ import annotations

# Typer reads the annotations of a command when it is called.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from revokebus.cli import connect, output
from revokebus.cli.connect import opened_engine, perform, read_settings
from revokebus.cli.options import (
    AsJson,
    Before,
    Confirm,
    DryRun,
    EnvFile,
    Issuer,
    Keep,
    Timeout,
    check_jti,
    read_moment,
    read_token,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus.engine.engine import Engine
    from revokebus.results import Receipt


def revoke(
    *,
    jti: Annotated[str | None, typer.Option(help="The id of the token, in place of it.")] = None,
    issuer: Issuer = None,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke one token. It is asked for, or read from standard input, never from the arguments."""
    check_jti(jti)
    if issuer is not None and jti is None:
        raise typer.BadParameter("--issuer goes with --jti: a token says who has made it")
    token = None if jti is not None else read_token()

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        if jti is not None:
            return await bus.revoke_claim("jti", jti, issuer=issuer, **options)
        return await bus.revoke(token or "", **options)

    _revoke(work, confirm, timeout, env_file, as_json=as_json, needs_keys=token is not None)


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


def revoke_subject(
    subject: Annotated[str, typer.Argument(help="The sub of the tokens.")],
    *,
    issued_before: Before = None,
    keep: Keep = None,
    issuer: Issuer = None,
    dry_run: DryRun = False,
    confirm: Confirm = True,
    timeout: Timeout = 2.0,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign a user out everywhere, or everywhere else."""
    before = read_moment(issued_before)

    async def work(bus: Engine, options: dict[str, Any]) -> Receipt:
        return await bus.revoke_subject(
            subject, before, keep=keep, issuer=issuer, dry_run=dry_run, **options
        )

    _revoke(work, confirm, timeout, env_file, as_json=as_json)


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
    if not receipt.revocations and receipt.sessions is None:
        connect.say("the token has expired, so there is nothing to revoke")
        return
    if confirm and receipt.confirmations is not None:
        _print_who_is_missing(receipt, own, settings.namespace)


def _print_who_is_missing(receipt: Receipt, own: str | None, namespace: str) -> None:
    if {each.instance for each in receipt.confirmations or ()} <= {own}:
        connect.say(
            f"recorded, for instances that start later; none has the namespace {namespace} "
            "(REVOKEBUS_NAMESPACE) now"
        )
    elif receipt.silent:
        connect.say("not every instance has answered; those may accept it until they are stale")
    elif not receipt.knows_all:
        connect.say(
            "recorded; but Redis, or its data, is new, so that an instance that was cut off before "
            "is not known, and may accept the tokens for max_staleness seconds: ask again after "
            "that, or with a --timeout that is longer"
        )
    else:
        return
    raise typer.Exit(connect.REFUSED)
