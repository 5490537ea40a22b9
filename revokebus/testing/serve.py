"""Runs uvicorn on a socket that the parent process has opened.

``python -m revokebus.testing.serve package.module:app FILE_DESCRIPTOR``. uvicorn's own ``--fd``
takes the socket for a Unix one and so leaves Nagle's delay on.
"""

from __future__ import annotations

import socket
import sys

import uvicorn


def main() -> None:
    """Serve until a signal ends it."""
    app, descriptor = sys.argv[1:]
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
