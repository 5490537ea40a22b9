"""A connection that is lost while it is written to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def noticing_loss() -> Iterator[None]:
    """Run a body that writes to a connection, and report a lost one as redis-py does.

    Where the other end has reset the connection a moment before, transports of some versions of
    Python since 3.12 raise `AttributeError` or `TypeError` (CPython issue 136234), and redis-py
    does not catch them.

    Raises:
        redis.ConnectionError: The connection is lost.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        message = f"the connection was lost while it was written to: {error!r}"
        raise RedisConnectionError(message) from error
