"""The names of what is logged: stable, for whoever filters or counts log records.

Each record of the logger ``revokebus`` has its name in the attribute ``event``. The text beside it
is for people, and may change.
"""

from __future__ import annotations

from typing import Literal

Event = Literal[
    "almost_full",
    "audit_finding",
    "client_check_failed",
    "complete",
    "cookie_too_long",
    "denylist_off",
    "ended_owing",
    "fresh",
    "guard_not_ended",
    "ignored",
    "keys_not_fetched",
    "loss_not_covered",
    "memory_not_shared",
    "not_awaited",
    "not_started",
    "predicate_raised",
    "predicate_wrong",
    "primary_changed",
    "primary_unconfirmed",
    "repaired",
    "replayed",
    "replica_changed",
    "resync",
    "revoked",
    "sign_in_unlisted",
    "stale_accepted",
    "started_without_copy",
    "started_without_keys",
    "token_refused",
    "trouble",
    "unknown_variable",
    "unsaved_written",
    "writes_lost",
]


def event(name: Event, **more: str | float) -> dict[str, str | float]:
    """Return what a log record carries beside its text.

    Args:
        name: What has happened.
        more: Further attributes; never a token, a key or a password.
    """
    return {"event": f"revokebus.{name}", **{f"revokebus_{k}": v for k, v in more.items()}}
