"""The command and its parts."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from revokebus.cli import connect, export, revoke, status
from revokebus.cli.options import AsJson
from revokebus.protocol.heartbeat import VERSION

app = typer.Typer(
    name="revokebus",
    help="Revoke tokens, and look after the instances that refuse them. What to connect to is read "
    "from the REVOKEBUS_* variables that the application has, too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (
    revoke.revoke,
    revoke.revoke_session,
    revoke.revoke_subject,
    revoke.revoke_all,
    status.check,
    status.status,
    status.watch,
    status.doctor,
    export.export,
    export.import_,
    export.import_jtis,
):
    app.command(_command.__name__.strip("_").replace("_", "-"))(_command)


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
