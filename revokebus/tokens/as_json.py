"""Values of claims in the form that JSON has for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from uuid import UUID


def as_json(value: object) -> object:
    """Return `value` with each UUID, date and datetime in it as a text (RFC 9562, RFC 3339).

    Raises:
        ValueError: A datetime does not say its time zone.
    """
    if isinstance(value, Mapping):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("claims: a datetime must say its time zone")
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
