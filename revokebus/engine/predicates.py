"""The application's own checks, asked beside the local copy. What goes wrong in one refuses."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

from revokebus.errors import PredicateError, RevokedTokenError
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus.tokens.claims import AccessToken, RefreshToken

    Predicate = Callable[[AccessToken | RefreshToken], bool | Awaitable[bool]]

logger = logging.getLogger("revokebus")


class Predicates:
    """Functions that may refuse a token."""

    def __init__(self) -> None:
        self._predicates: list[Predicate] = []

    def __bool__(self) -> bool:
        return bool(self._predicates)

    def add(self, predicate: Predicate) -> None:
        """Ask `predicate` from now on."""
        self._predicates.append(predicate)

    async def ask(self, token: AccessToken | RefreshToken) -> None:
        """Ask them in turn.

        Raises:
            RevokedTokenError: One of them refuses the token.
            PredicateError: One of them raised, or did not answer with a bool. Only a bool is an
                answer: a function that forgets to return must not let everybody in.
        """
        for predicate in self._predicates:
            try:
                denied: object = predicate(token)
                if inspect.isawaitable(denied):
                    denied = await denied
            except Exception as error:
                logger.exception(
                    "revokebus: a deny_if predicate raised; the request is refused",
                    extra=event("predicate_raised"),
                )
                raise PredicateError("The application's own check failed") from error
            if not isinstance(denied, bool):
                logger.error(
                    "revokebus: a deny_if predicate returned %s instead of a bool; the request "
                    "is refused",
                    type(denied).__name__,
                    extra=event("predicate_wrong"),
                )
                raise PredicateError("The application's own check failed")
            if denied:
                raise RevokedTokenError
