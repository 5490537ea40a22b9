"""What goes wrong in the background: said once, counted, and remembered while it lasts."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("revokebus")


class Conditions:
    """The lasting trouble of each part, and the count of what strangers sent."""

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self._lasting: dict[str, str] = {}

    def __str__(self) -> str:
        return "; ".join(self._lasting.values())

    def note(self, part: str, trouble: Exception | str) -> None:
        """Remember what `part` suffers from; a repetition is not logged again."""
        text = f"{part}: {trouble}".rstrip(".")
        if self._lasting.get(part) != text:
            logger.warning("revokebus %s", text, extra=event("trouble", part=part))
        self._lasting[part] = text

    def over(self, part: str) -> bool:
        """Forget the trouble of `part`, and say whether there was one."""
        return self._lasting.pop(part, None) is not None

    def note_or_over(self, part: str, trouble: str) -> bool:
        """Remember the trouble of `part`; where there is none, forget it and return if it was."""
        if not trouble:
            return self.over(part)
        self.note(part, trouble)
        return False

    @contextmanager
    def noting(self, part: str) -> Iterator[None]:
        """Remember what goes wrong in the body as the trouble of `part`, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
            self.note(part, error)
        else:
            self.over(part)

    def ignore(self, source: str, kind: str) -> None:
        """Count something that is not ours; only the first of its kind is logged."""
        name = f"{source}_{kind}"
        self.ignored[name] += 1
        if self.ignored[name] == 1:
            logger.warning(
                "revokebus ignores what is not its own: %s (the next are counted)",
                name,
                extra=event("ignored", kind=name),
            )
