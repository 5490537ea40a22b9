"""A child process that is certain to end."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02


class ReservedPort:
    """A free TCP port of the loopback interface, on Linux reserved as long as this object lives.

    Only a server that sets ``SO_REUSEADDR``, as servers do, can be bound to it. The kernel gives it
    to no one else: neither to a connection that goes out, nor to a program that asks for any free
    port. Other systems refuse the server as well, so there the port is only free at first.

    Attributes:
        number: The port.
    """

    def __init__(self) -> None:
        reservation = socket.socket()
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((LOOPBACK, 0))
        self.number: int = reservation.getsockname()[1]
        release = weakref.finalize(self, reservation.close)
        if sys.platform != "linux":
            release()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Return when `condition` holds.

    Raises:
        RuntimeError: It does not within `seconds`; the message names `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def _with_parent() -> list[str]:
    """Return what makes a command end when this process is killed, where the system can."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class ChildProcess:
    """A context manager around one process; a subclass says how it starts.

    The process gets a session of its own, so that Ctrl-C reaches the parent alone and the
    parent decides in which order things end.
    """

    _process: subprocess.Popen[bytes] | None = None
    _frozen = False

    def start(self) -> None:
        """Start the process and return when it serves."""
        raise NotImplementedError

    def _spawn(
        self,
        command: Sequence[str],
        *,
        log: IO[bytes],
        environment: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
        folder: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the subclass's own command
            [*_with_parent(), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            pass_fds=keep_open,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def answers(self) -> bool:
        """Whether the process lives and is not frozen."""
        return self.running and not self._frozen

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            RuntimeError: It was not started.
        """
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def stop(self) -> None:
        """Ask the process to end, and end it if it does not within 10 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process without closing its connections."""
        self._send(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._send(signal.SIGCONT)
        self._frozen = False

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._send(number)
        self.thaw()  # a frozen process would not hear of its end
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # Ctrl-C too: nothing may be left running
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class ProcessGroup:
    """A context manager around several processes; a subclass says how they start."""

    def __init__(self) -> None:
        self._started = ExitStack()

    def _start(self, started: ExitStack) -> None:
        """Start the processes; `started` ends what was entered into it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with ExitStack() as started:  # ends at once what has started if something fails
            self._start(started)
            self._started = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()
