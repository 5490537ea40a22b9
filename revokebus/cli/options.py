"""What several commands take: options, a token, a moment."""

from __future__ import annotations

import sys

# Typer reads the annotations of a command when it is called.
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from revokebus.cli import connect
from revokebus.tokens.claims import is_identifier

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
Keep = Annotated[
    str | None,
    typer.Option("--keep", metavar="SID", help="The sid of a session that goes on."),
]
Issuer = Annotated[str | None, typer.Option(help="The iss of the tokens; by default our own.")]
Confirm = Annotated[
    bool, typer.Option(help="Wait until every instance has answered that it refuses them.")
]
Timeout = Annotated[
    float, typer.Option(help="Seconds to wait for these answers.", min=0.01, max=60)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Revoke nothing; say who would be told.")]


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
