"""What the command prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.protocol.revocation import Revocation
    from revokebus.results import Finding, InstanceStatus, Receipt

console = Console()
errors = Console(stderr=True)

_WIDE = 140

_COLOURS = {
    "fresh": "green",
    "applied": "green",
    "ok": "green",
    "ended": "green",
    "starting": "yellow",
    "warning": "yellow",
    "stale": "yellow",
    "silent": "red",
    "refused": "red",
}


def print_json(value: object) -> None:
    """Print `value` on one line."""
    typer.echo(json.dumps(value, ensure_ascii=True, allow_nan=False))


def print_line(text: str) -> None:
    """Print a line for people, as it is: what a stranger has written must not colour it."""
    console.print(Text(_printable(text)), soft_wrap=True)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _cell(value: object) -> Text:
    text = "-" if value is None else _printable(str(value))
    return Text(text, style=_COLOURS.get(text, ""))


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; what has a colour of its own is coloured."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def seconds(value: float | None) -> str | None:
    """Return a time in the unit that suits it."""
    if value is None:
        return None
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def moment(at: float | None) -> str | None:
    """Return a moment in UTC (RFC 3339)."""
    if at is None:
        return None
    latest = datetime.max.replace(tzinfo=UTC).timestamp() - 1  # what others send can be later
    shown = datetime.fromtimestamp(min(at, latest), UTC)
    return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_fleet(fleet: Sequence[InstanceStatus], *, as_json: bool) -> None:
    """Print how each instance is."""
    if as_json:
        print_json([asdict(each) for each in fleet])
        return
    is_wide = console.width >= _WIDE
    headings = ["instance", "host", "process", "state", "staleness", "entries", "heard", "version"]
    rows = [
        [
            *(each.instance if is_wide else each.instance[:8], each.host, each.pid),
            "silent" if each.is_silent and each.state != "stale" else each.state,
            *(seconds(each.staleness), f"{each.entries:,}", seconds(each.silence), each.version),
        ]
        for each in fleet
    ]
    if is_wide:
        headings += ["lag", "position", "owes"]
        rows = [
            [*row, seconds(each.lag), each.position, each.owed]
            for row, each in zip(rows, fleet, strict=True)
        ]
    print_table(f"{len(fleet)} instances", headings, rows)


def print_receipt(receipt: Receipt, own: str | None, *, as_json: bool) -> None:
    """Print what a revocation has achieved; the command itself is no instance that matters."""
    confirmations = receipt.confirmations
    if confirmations is not None:
        confirmations = tuple(each for each in confirmations if each.instance != own)
    if as_json:
        told = asdict(receipt) | {"is_confirmed": bool(confirmations) and receipt.is_confirmed}
        if confirmations is not None:
            told["confirmations"] = [asdict(each) for each in confirmations]
        print_json(told)
        return
    if receipt.sessions is not None:
        others = "an unknown number" if receipt.instances is None else receipt.instances - 1
        print_line(f"Nothing was revoked. Subscribed beside this command: {others}.")
        return
    if not receipt.revocations:
        return
    print_line(f"Recorded at {receipt.position}.")
    if confirmations is not None:
        rows = [
            (each.instance, each.host, each.pid, each.outcome, seconds(each.seconds))
            for each in confirmations
        ]
        print_table("Confirmed by", ("instance", "host", "process", "outcome", "after"), rows)


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print what the audit has found."""
    if as_json:
        print_json([asdict(each) for each in findings])
        return
    rows = [(each.level, each.check, each.message, each.remedy) for each in findings]
    print_table("Audit", ("level", "check", "found", "remedy"), rows)


def as_dict(revocation: Revocation) -> dict[str, Any]:
    """Return a revocation as it stands in JSON; what it keeps only where it keeps a session."""
    kept = revocation.kept
    return {
        "iss": revocation.issuer,
        "claim": revocation.claim,
        "value": revocation.value,
        "expires_at": revocation.expires_at,
        "issued_before": revocation.issued_before,
        **({"kept": kept.session_id, "kept_issued_before": kept.issued_before} if kept else {}),
    }


def print_revocation(revocation: Revocation, position: str, *, as_json: bool) -> None:
    """Print one revocation as it comes."""
    if as_json:
        print_json({"position": position, **as_dict(revocation)})
        return
    before = moment(revocation.issued_before)
    issuer = f" of {revocation.issuer}" if revocation.issuer else ""
    cut_off = f", issued before {before}" if before else ""
    kept = f", but session {revocation.kept.session_id}" if revocation.kept else ""
    print_line(f"{position}  {revocation.claim} = {revocation.value}{issuer}{cut_off}{kept}")
