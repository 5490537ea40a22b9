"""The command ``revokebus``. Nothing imports it; it needs the extra ``revokebus[cli]``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what is missing."""
    try:
        from revokebus.cli.commands import run  # noqa: PLC0415 - only with the extra
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("revokebus: the command needs the extra cli: pip install 'revokebus[cli]'")
    run()
