"""Spans, where the application has OpenTelemetry; nothing where it has not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def _find() -> Any:
    try:
        from opentelemetry import trace  # noqa: PLC0415 - it comes with the extra ``metrics``
    except ModuleNotFoundError:
        return None
    return trace


_TRACE = _find()


class Span(Protocol):
    """What may be said of what goes on."""

    def set_attribute(self, key: str, value: str | float | bool) -> None:  # noqa: FBT001 - OpenTelemetry's
        """Say something of it; never a token, a key or a password."""


class _NoSpan:
    def set_attribute(self, key: str, value: str | float | bool) -> None:  # noqa: FBT001 - likewise
        pass


_NO_SPAN = contextlib.nullcontext(_NoSpan())


def span(name: str) -> AbstractContextManager[Span]:
    """Mark what is done in the body; an error that leaves it is noted."""
    # Without a provider of the application's own, spans go nowhere, and take 7 µs each.
    if _TRACE is None or isinstance(_TRACE.get_tracer_provider(), _TRACE.ProxyTracerProvider):
        return _NO_SPAN
    made: AbstractContextManager[Span] = _TRACE.get_tracer("revokebus").start_as_current_span(name)
    return made
