"""The commands that look, and change nothing."""

from __future__ import annotations

import asyncio

# Typer reads the annotations of a command when it is called.
from typing import TYPE_CHECKING, Annotated, Any

import typer

from revokebus.cli import connect, output
from revokebus.cli.connect import opened_store, perform, read_settings
from revokebus.cli.options import AsJson, EnvFile, Issuer, check_jti, read_token
from revokebus.clock import SystemClock
from revokebus.errors import InvalidTokenError, WireError
from revokebus.protocol.heartbeat import describe
from revokebus.protocol.revocation import Target, targets_of
from revokebus.protocol.wire import decode_message, decode_payload, encode_entry_id
from revokebus.store.audit import audit
from revokebus.telemetry.counters import Counters
from revokebus.tokens.verifier import Verifier

if TYPE_CHECKING:
    from revokebus.protocol.revocation import Revocation
    from revokebus.results import Finding, InstanceStatus
    from revokebus.settings.settings import Settings


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
        of = settings.own_issuer if issuer is None else issuer
        refused = perform(_is_recorded(settings, [Target(of, "jti", "string", jti or "")], 0.0))
        _print_verdict("revoked" if refused else "no record", {"jti": jti}, as_json=as_json)
    else:
        verdict, told = perform(_judge(settings, token))
        _print_verdict(verdict, told, as_json=as_json)


def _print_verdict(verdict: str, told: dict[str, Any], *, as_json: bool) -> None:
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
    async with opened_store(settings) as redis:
        return await redis.store.refuses(targets, since, "")


async def _judge(settings: Settings, encoded: str) -> tuple[str, dict[str, Any]]:
    verifier = Verifier(settings, SystemClock(), Counters())
    await asyncio.gather(*(key_set.refresh() for key_set in verifier.remote_key_sets))
    try:
        token = verifier.verify_signature(encoded)
    except InvalidTokenError:
        return "invalid", {"reason": verifier.fault_of(encoded)}
    told = {
        "type": token.type,
        "sub": token.subject,
        "jti": token.jti,
        "sid": token.session_id,
        "expires": output.moment(token.expires_at),
    }
    targets = targets_of(token.verified_claims, token.issuer, settings.revocable_names)
    if await _is_recorded(settings, targets, token.since):
        return "revoked", told
    try:
        verifier.check_time(token)
    except InvalidTokenError as error:
        return str(error), told
    return "valid", told


def status(*, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Show every instance and its copy. The exit status is 1 if one is stale or silent."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> list[InstanceStatus]:
        async with opened_store(settings) as redis:
            known = await redis.instances.look()
            return describe(known.live.values(), own="")

    fleet = perform(work())
    output.print_fleet(fleet, as_json=as_json)
    if not fleet:
        connect.say(f"no instance has the namespace {settings.namespace} (REVOKEBUS_NAMESPACE)")
    if not fleet or any(each.state == "stale" or each.is_silent for each in fleet):
        raise typer.Exit(connect.REFUSED)


def doctor(*, env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Look for what endangers the promises. The exit status is 1 if something does."""
    settings = read_settings(env_file, needs_keys=False)

    async def work() -> list[Finding]:
        async with opened_store(settings) as redis:
            return await audit(redis, settings, SystemClock())

    findings = perform(work())
    output.print_findings(findings, as_json=as_json)
    if any(finding.level != "ok" for finding in findings):
        raise typer.Exit(connect.REFUSED)


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
    async with opened_store(settings) as redis, redis.store.subscribe() as messages:
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
        position = encode_entry_id(message.entry)
        return [(position, revocation) for revocation in decode_payload(message.payload)]
    except WireError:
        return []
