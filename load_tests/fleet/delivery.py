"""What it costs Redis to tell a fleet of a revocation: one at a time, and many together."""

from __future__ import annotations

import secrets
import socket
import statistics
from typing import TYPE_CHECKING

from load_tests.fleet.held import HeldServer
from load_tests.fleet.ticks import most
from load_tests.measure import log_errors_only, tell, track
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import encode_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

INSTANCES = 500
MESSAGES = 60
TOGETHER = 10
ROUNDS = 5
CHANNEL = "{revokebus}:ch"


def main() -> None:
    """Tell both."""
    rounds: dict[int, list[float]] = {1: [], TOGETHER: []}
    with HeldServer() as server:
        lines = [subscribed(server.address) for _ in range(INSTANCES)]
        for _ in track(ROUNDS):
            for together, figures in rounds.items():
                figures.append(cost(server, lines, together))
        for line in lines:
            line.close()
    for together, figures in rounds.items():
        how = "alone" if together == 1 else f"{together} at a time"
        what = f"Redis's processor to tell one of {INSTANCES} instances of a revocation, {how}"
        tell(most(what, statistics.median(figures), "µs", None))


def subscribed(address: tuple[str, int]) -> socket.socket:
    """Return a connection that hears what is published."""
    line = socket.create_connection(address)
    line.sendall(f"SUBSCRIBE {CHANNEL}\r\n".encode())
    line.recv(1 << 12)
    return line


def cost(server: HeldServer, lines: Sequence[socket.socket], together: int) -> float:
    """Return how many microseconds of a processor it takes for each message and instance."""
    payload = encode_payload([Revocation("jti", secrets.token_urlsafe(16), 1_795_500_088.0)])
    message = b"RB " + b"e" * 32 + b" 1795500088598-0 1795500088598-1 " + payload
    size = len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n" % len(CHANNEL)) + len(CHANNEL)
    size += len(b"\r\n$%d\r\n" % len(message)) + len(message) + 2
    with server.client() as client:
        client.ping()
        before = server.used()
        for _ in range(MESSAGES // together):
            pipe = client.pipeline(transaction=False)
            for _ in range(together):
                pipe.publish(CHANNEL, message)
            pipe.execute()
            for line in lines:
                left = together * size
                while left:
                    left -= len(line.recv(left))
        return (server.used() - before) / (MESSAGES * len(lines)) * 1e6


if __name__ == "__main__":
    log_errors_only()
    main()
