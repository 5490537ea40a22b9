"""A server that gets a share of a processor and no more, and what it has used of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from revokebus.testing import RedisServer
from revokebus.testing.process import LOOPBACK, ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GROUPS = Path("/sys/fs/cgroup/cpu")
_PERIOD_MICROSECONDS = 50_000
_LOOKS_PER_PERIOD = 50


def processor_seconds(pid: int) -> float:
    """Return what a process has used of the processors since it began, to the nanosecond."""
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9


class HeldServer(RedisServer):
    """A server whose processor can be taken from it.

    Where this user may make control groups they hold it; elsewhere it is stopped whenever it has
    used up its share of a period, by a thread that looks often.

    Args:
        options: Configuration directives and their values.
        binary: The server's executable; by default the embedded Valkey.
    """

    def __init__(self, options: Mapping[str, str] | None = None, binary: str | None = None) -> None:
        super().__init__(binary, options)

    def used(self) -> float:
        """Return how many seconds of a processor it has used."""
        assert self.pid is not None
        return processor_seconds(self.pid)

    @contextlib.contextmanager
    def held(self, share: float, period: int = _PERIOD_MICROSECONDS) -> Iterator[None]:
        """Let it use a share of one processor, and no more, for the body.

        Args:
            share: The share.
            period: Within how many microseconds it gets that: for the rest of them it stands still.
        """
        is_group = os.access(_GROUPS, os.W_OK)
        holding = self._by_group(share, period) if is_group else self._by_signals(share)
        with holding:
            yield

    @contextlib.contextmanager
    def _by_group(self, share: float, period: int) -> Iterator[None]:
        group = _GROUPS / f"revokebus-{self.pid}"
        group.mkdir()
        try:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(round(share * period)))
            (group / "cgroup.procs").write_text(str(self.pid))
            yield
        finally:
            (_GROUPS / "cgroup.procs").write_text(str(self.pid))
            group.rmdir()

    @contextlib.contextmanager
    def _by_signals(self, share: float) -> Iterator[None]:
        is_over = threading.Event()
        period = _PERIOD_MICROSECONDS / 1e6

        def hold() -> None:
            while not is_over.is_set():
                until, before = time.monotonic() + period, self.used()
                while time.monotonic() < until and self.used() - before < share * period:
                    is_over.wait(period / _LOOKS_PER_PERIOD)
                self.freeze()
                is_over.wait(max(0.0, until - time.monotonic()))
                self.thaw()

        thread = threading.Thread(target=hold, name="hold", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


class TlsServer(HeldServer):
    """One that takes TLS as well, by a certificate that is made for it.

    The embedded server is built without it.

    Args:
        folder: Where the certificate is kept.
    """

    BINARY = "redis-server"

    def __init__(self, folder: Path) -> None:
        certificate, key = folder / "server.pem", folder / "server.key"
        kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        names = ("-subj", "/CN=redis", "-keyout", str(key), "-out", str(certificate))
        command = ["openssl", "req", *kind, *names]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own
        reserved = ReservedPort()
        options = {
            "tls-port": str(reserved.number),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(key),
            "tls-auth-clients": "no",
        }
        super().__init__(options, self.BINARY)
        self.tls_url = f"rediss://{LOOPBACK}:{reserved.number}/0?ssl_cert_reqs=none"
