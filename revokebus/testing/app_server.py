"""A FastAPI application under uvicorn, in a process of its own."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

from revokebus.testing.process import LOOPBACK, ChildProcess, ReservedPort

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping

_START_SECONDS = 30.0
_BACKLOG = 128


class AppServer(ChildProcess):
    """An application on a free loopback port.

    Args:
        app: Where uvicorn finds it, as ``package.module:name``.
        environment: Variables to set beside those of this process.
        port: The port; by default a free one.
    """

    def __init__(
        self, app: str, environment: Mapping[str, str] | None = None, *, port: int = 0
    ) -> None:
        self._app = app
        self._environment = {**os.environ, **(environment or {})}
        self.port = port
        self._reserved: ReservedPort | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start the application and return when it answers.

        Raises:
            RuntimeError: It ended, or did not answer within 30 s; with what it printed.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the application without waiting for it."""
        # A file without a name, so that nothing is left behind however this process ends.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - open as long as the process
        if not self.port:
            self._reserved = ReservedPort()  # for the next start, too
            self.port = self._reserved.number
        # The socket listens before the process starts, so that connections wait for it.
        with socket.create_server((LOOPBACK, self.port), backlog=_BACKLOG) as listener:
            number = listener.fileno()
            command = [sys.executable, "-m", "revokebus.testing.serve", self._app, str(number)]
            self._spawn(command, log=self._log, environment=self._environment, keep_open=[number])

    def wait(self) -> None:
        """Return when the application answers.

        Raises:
            RuntimeError: It ended, or did not answer within 30 s; with what it printed.
        """
        # The connection waits in the backlog until the application has started.
        request = urllib.request.Request(self.url, method="HEAD")  # noqa: S310 - http, above
        try:
            urllib.request.urlopen(request, timeout=_START_SECONDS).close()  # noqa: S310 - likewise
        except urllib.error.HTTPError as answer:
            answer.close()  # any answer is one
        except OSError as error:
            printed = self.printed()
            self.kill()
            raise RuntimeError(f"{self._app} does not start:\n{printed}") from error

    def printed(self) -> str:
        """Return what the application has printed so far."""
        if self._log is None:
            return ""
        # Without moving the position, which the application shares.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        super()._end(number)
        if self._log is not None:
            self._log.close()
            self._log = None


@contextmanager
def serving(*servers: AppServer) -> Iterator[None]:
    """Start several applications at once, and stop them at the end."""
    with ExitStack() as started:
        for server in servers:
            started.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait()
        yield
