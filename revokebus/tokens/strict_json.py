"""JSON as a token may contain it: nothing that two readers could understand differently.

Python's reader takes the last of two members of one name, reads NaN and overflowing numbers, and
lone surrogates that cannot be written as UTF-8 (RFC 8725 §2.6 and §3.7, RFC 7515 §4, RFC 8259 §8).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_DEEPEST = 64


def loads(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Raises:
        ValueError: It is not one, or says something twice, or what is no number or no text.
        RecursionError: It is nested deeper than Python can follow.
    """
    text = data.decode("utf-8")
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a value of the bytes, not a type
    # Only an escape can write what UTF-8 cannot; only many brackets can be deep.
    if "\\u" in text or text.count("[") + text.count("{") > _DEEPEST:
        _check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _refuse(_name: str) -> NoReturn:
    raise ValueError("not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse)


def _check(value: object) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for each in level:
            if isinstance(each, str):
                _check_text(each)
            elif isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, list):
                below += each
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a text contains NUL")
    text.encode("utf-8")  # raises for a lone surrogate
