"""Revocations that were called and not awaited: they are made all the same, and it is said.

``bus.revoke_session(sid)`` without ``await`` would answer 200 and revoke nothing, and the one line
that Python prints then is easily overlooked.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from revokebus.engine.lifecycle import Lifecycle

logger = logging.getLogger("revokebus")


class _HasLifecycle(Protocol):
    _lifecycle: Lifecycle


Owner = TypeVar("Owner", bound=_HasLifecycle)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def made_anyway(
    method: Callable[Concatenate[Owner, Parameters], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Owner, Parameters], Coroutine[Any, Any, Result]]:
    """Return `method` so that what it returns is done even where it is not awaited.

    For asyncio, and for all who await it, it is a coroutine function as before.
    """

    @functools.wraps(method)
    def call(
        self: Owner, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Coroutine[Any, Any, Result]:
        return _Promise(method(self, *args, **kwargs), method.__name__, self._lifecycle)

    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(call)
    call._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001 - the only way before 3.12
    return call


class _Promise(Coroutine[Any, Any, Result]):
    """A coroutine that begins by itself when it is dropped before it has begun."""

    __slots__ = ("_coroutine", "_has_begun", "_lifecycle", "_name")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Result], name: str, lifecycle: Lifecycle
    ) -> None:
        self._coroutine = coroutine
        self._name = name
        self._lifecycle = lifecycle
        self._has_begun = False

    # Old versions of anyio (before 4.14) take nothing but what `inspect.iscoroutine` does.
    @property  # type: ignore[misc]  # read, and never set
    def __class__(self) -> type:
        return CoroutineType

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # cr_running, and what else has been asked of them

    def __await__(self) -> Generator[Any, Any, Result]:
        self._has_begun = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._has_begun = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._has_begun = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._has_begun = True
        self._coroutine.close()

    def __del__(self) -> None:
        if self._has_begun:
            return
        outcome = "it is done now, and no one learns whether it succeeds"
        try:
            self._begin()
        except RuntimeError:  # there is no loop any more that could do it
            self._coroutine.close()
            outcome = "nothing was revoked"
        logger.error(
            "revokebus: bus.%s(...) was called without await, so %s; write `await bus.%s(...)`",
            self._name,
            outcome,
            self._name,
            extra=event("not_awaited"),
        )

    def _begin(self) -> None:
        """Begin, on the loop of the bus.

        Raises:
            RuntimeError: That has ended, or the bus has.
        """
        lifecycle, loop = self._lifecycle, self._lifecycle.loop
        if loop is None or not loop.is_running() or lifecycle.phase != "running":
            raise RuntimeError
        try:
            is_own = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_own = False
        if is_own:  # at once, so that an end of the bus waits for it
            _begin(self._coroutine, self._name, lifecycle)
        else:
            loop.call_soon_threadsafe(_begin, self._coroutine, self._name, lifecycle)


def _begin(coroutine: Coroutine[Any, Any, Any], name: str, lifecycle: Lifecycle) -> None:
    task = asyncio.create_task(coroutine, name=f"revokebus-{name}")
    lifecycle.late.add(task)
    task.add_done_callback(functools.partial(_ended, lifecycle))


def _ended(lifecycle: Lifecycle, task: asyncio.Task[Any]) -> None:
    lifecycle.late.discard(task)
    error = "it was cancelled" if task.cancelled() else task.exception()
    if error is not None:
        logger.error(
            "revokebus: what was not awaited has failed: %s", error, extra=event("not_awaited")
        )
