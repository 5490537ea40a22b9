"""Revocations to bytes and back: the log's entries, the records and the channel's messages.

A *payload* is the version, a space, and a JSON array of rows
``[issuer, claim, value, expires_at, issued_before]``; the last is null if all tokens are refused.
Where a cut-off keeps a session two more follow: its ``sid``, and the cut-off of its own tokens, 0
if there is none. JSON keeps any character of a text apart from the syntax. The log and the records
hold payloads; the write script reads what follows the value in a record. A *message* on the channel
puts the payload behind its place in the log::

    RB <epoch> <previous entry's id> <this entry's id> <payload>

An *inquiry* asks which instances have applied an entry. It follows the entry's message on the same
channel, and each instance answers with its name on the channel that the inquiry names::

    RQ <epoch> <entry's id> <inquiry>

Anyone with the right to publish can put anything there, so decoding raises `WireError` and nothing
else, and takes linear time.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from revokebus.errors import WireError
from revokebus.protocol.revocation import Kept, Revocation, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT_VERSION = 2
"""The version of payloads and messages; a reader ignores every other."""

DATA_VERSION = 3
"""The version of what is in Redis and of how it is written; an instance refuses every other."""

MAX_BYTES = 1024 * 1024
"""The longest payload or message that is read, in bytes."""

MAX_EXPIRES_AT = 253_402_300_800.0
"""The end of the year 9999, the last moment that a record may live to."""

_MAX_CLAIM = 256
_MAX_ISSUER = 2048
_MAX_VALUE = 8192
_PREFIX = b"%d " % FORMAT_VERSION
# A plain row: one token or session, whole seconds, no cut-off, no character that JSON writes in two
# ways. It says the same as the code after it, in a tenth of the time. 128 bits of base64url are
# captured apart from other texts, because `packing` makes them shorter. Each part is possessive or
# atomic: a row is read once, and never again in another way, so reading takes linear time.
_PLAIN_ROW = re.compile(
    rb'\["([ !#-\[\]-~]{0,%d}+)","([ !#-\[\]-~]{1,%d}+)",'
    rb'"(?>([A-Za-z0-9_-]{21}[AQgw])"|([ !#-\[\]-~]{1,%d}+)"),'
    rb"([1-9]\d{0,10}+)\.0,null\]" % (_MAX_ISSUER, _MAX_CLAIM, _MAX_VALUE)
)
_PLAIN_LINE = re.compile(rb"^%s\[%s\]$" % (_PREFIX, _PLAIN_ROW.pattern), re.MULTILINE)
_ENCODER = json.JSONEncoder(separators=("\n", ":"), allow_nan=False)
_ENTRY_ID = re.compile(rb"(\d{1,20})-(\d{1,20})", re.ASCII)
_HEAD = re.compile(rb"RB ([0-9a-f]{32}) (\d{1,20})-(\d{1,20}) (\d{1,20})-(\d{1,20}) ", re.ASCII)
_INQUIRY = re.compile(rb"RQ ([0-9a-f]{32}) (\d{1,20})-(\d{1,20}) ([0-9a-f]{16})", re.ASCII)
_INSTANCE = re.compile(rb"[0-9a-f]{16}")
_HEAD_BEGINS = re.compile(rb"RB [0-9a-f]{32} \S++ \S++ ", re.ASCII)

PlainRow = tuple[bytes, bytes, bytes, bytes, bytes]
"""A revocation of all tokens with a claim, in ASCII: issuer, claim, text, and expiry.

The text is in the third place where it is 128 bits of base64url, and in the fourth otherwise.
"""

EntryId = tuple[int, int]
"""A stream entry's id: milliseconds and sequence number, ordered as Redis orders them."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the channel: an entry of the log and its place in it."""

    epoch: str
    previous: EntryId
    entry: EntryId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The question which instances have applied an entry.

    Attributes:
        epoch: The data set.
        entry: The entry.
        name: Where the answers are awaited.
    """

    epoch: str
    entry: EntryId
    name: str


def encode_rows(revocations: Iterable[Revocation]) -> list[str]:
    """Return each of `revocations` as a row of a payload, in ASCII."""
    rows = [
        [r.issuer, r.claim, r.value, r.expires_at, r.issued_before, *(r.kept or ())]
        for r in revocations
    ]
    if not rows:
        return []
    # All in one call, which takes a quarter of the time. A line break parts items and rows, and
    # JSON has none within either.
    text = _ENCODER.encode(rows)
    return [f"[{row}]".replace("\n", ",") for row in text[2:-2].split("]\n[")]


def payload_of_rows(rows: Iterable[str]) -> bytes:
    """Return the payload that has these rows."""
    return _PREFIX + f"[{','.join(rows)}]".encode("ascii")


def encode_payload(revocations: Iterable[Revocation]) -> bytes:
    """Return the payload that carries `revocations`."""
    return payload_of_rows(encode_rows(revocations))


def decode_payload(payload: bytes) -> list[Revocation]:
    """Return the revocations that `payload` carries.

    Raises:
        WireError: `payload` is too long, of another version, or not what we write.
    """
    if plain_row := _PLAIN_LINE.fullmatch(payload):
        issuer, claim, short, other, expires_at = plain_row.groups(b"")
        value = short or other
        row = Revocation(claim.decode(), value.decode(), float(expires_at), None, issuer.decode())
        return [row]
    if len(payload) > MAX_BYTES:
        raise WireError("too_large")
    if not payload.startswith(_PREFIX):
        raise WireError("version")
    try:
        rows = json.loads(payload[len(_PREFIX) :])
    except (ValueError, RecursionError):
        raise WireError("not_json") from None
    if not isinstance(rows, list):
        raise WireError("type")
    return [revocation_of(row) for row in rows]


def plain_rows(
    payloads: Sequence[bytes | None],
) -> tuple[list[PlainRow], Sequence[bytes | None]]:
    """Return the rows of all payloads that hold nothing but plain rows, and the other payloads.

    Hundreds of payloads of one row each are read in one pass.
    """
    text = b"\n".join([payload or b"" for payload in payloads])
    rows = _PLAIN_LINE.findall(text) if text.count(b"\n") == len(payloads) - 1 else []
    if len(rows) == len(payloads):
        return rows, ()
    rows, others = [], []
    for payload in payloads:
        found = _rows_if_plain(payload) if payload and len(payload) <= MAX_BYTES else None
        if found is None:
            others.append(payload)
        else:
            rows += found
    return rows, others


def _rows_if_plain(payload: bytes) -> list[PlainRow] | None:
    """Return the rows of a payload of plain rows; None for any other payload."""
    if not payload.startswith(_PREFIX + b"["):
        return None
    rows: list[PlainRow] = []
    at = len(_PREFIX)
    while payload[at : at + 1] == (b"," if rows else b"["):
        # Row by row: one call of the matcher never sees more than the longest row.
        row = _PLAIN_ROW.match(payload, at + 1)
        if row is None:
            return None
        rows.append(cast("PlainRow", row.groups(b"")))
        at = row.end()
    return rows if payload[at:] == b"]" else None


def revocation_of(row: object) -> Revocation:
    """Return the revocation that a row of a payload is, once its JSON was read.

    Raises:
        WireError: It is none.
    """
    if not isinstance(row, list) or len(row) not in (5, 7):
        raise WireError("type")
    issuer, claim, value, expires_at, issued_before, *keeps = row
    if not isinstance(issuer, str) or len(issuer) > _MAX_ISSUER:
        raise WireError("issuer")
    if not isinstance(claim, str) or not 0 < len(claim) <= _MAX_CLAIM:
        raise WireError("claim")
    try:
        value = plain(value)
    except TypeError:
        raise WireError("value") from None
    if not 0 < len(str(value)) <= _MAX_VALUE:
        raise WireError("value")
    cut_off = None if issued_before is None else _decode_moment(issued_before, "issued_before")
    kept = _decode_kept(keeps[0], keeps[1], cut_off) if keeps else None
    return Revocation(claim, value, _decode_moment(expires_at, "expires_at"), cut_off, issuer, kept)


def _decode_kept(session_id: object, issued_before: object, cut_off: float | None) -> Kept:
    if not isinstance(session_id, str) or not 0 < len(session_id) <= _MAX_VALUE:
        raise WireError("kept")
    # Zero, and not False, says that there is none.
    is_none = issued_before == 0 and not isinstance(issued_before, bool)
    moment = 0.0 if is_none else _decode_moment(issued_before, "kept")
    if cut_off is None or moment >= cut_off:
        raise WireError("kept")  # it would not be kept
    return Kept(session_id, moment)


def _decode_moment(moment: object, name: str) -> float:
    # A bool is an int to Python. The comparison also refuses NaN and integers beyond a float.
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise WireError(name)
    # Less than 1 might be written with an exponent, which the scripts do not read.
    if not 1 <= moment <= MAX_EXPIRES_AT:
        raise WireError(name)
    return float(moment)


def decode_message(message: bytes) -> Message:
    """Return the entry that `message` announces; its payload is not decoded yet.

    Raises:
        WireError: `message` is too long or not one of ours.
    """
    if len(message) > MAX_BYTES:
        raise WireError("too_large")
    head = _HEAD.match(message)
    if head is None:
        raise WireError("row_id" if _HEAD_BEGINS.match(message) else "foreign")
    epoch, *ids = head.groups()
    previous, entry = (int(ids[0]), int(ids[1])), (int(ids[2]), int(ids[3]))
    return Message(epoch.decode(), previous, entry, message[head.end() :])


def encode_message(message: Message) -> bytes:
    """Return `message` as it stands on the channel; the write script does the same in Redis."""
    previous, entry = encode_entry_id(message.previous), encode_entry_id(message.entry)
    return f"RB {message.epoch} {previous} {entry} ".encode() + message.payload


def encode_inquiry(inquiry: Inquiry) -> bytes:
    """Return `inquiry` as it stands on the channel."""
    return f"RQ {inquiry.epoch} {encode_entry_id(inquiry.entry)} {inquiry.name}".encode()


def decode_inquiry(message: bytes) -> Inquiry | None:
    """Return the question that `message` asks; None where it asks none."""
    match = _INQUIRY.fullmatch(message)
    if match is None:
        return None
    epoch, milliseconds, number, name = match.groups()
    return Inquiry(epoch.decode(), (int(milliseconds), int(number)), name.decode())


def decode_instance(text: bytes) -> str:
    """Return the name of an instance.

    Raises:
        WireError: `text` is none.
    """
    if not _INSTANCE.fullmatch(text):
        raise WireError("instance")
    return text.decode()


def decode_entry_id(text: bytes) -> EntryId:
    """Return a stream entry's id as two numbers that compare as Redis compares them.

    Raises:
        WireError: `text` is not such an id.
    """
    match = _ENTRY_ID.fullmatch(text)
    if match is None:
        raise WireError("row_id")
    return int(match[1]), int(match[2])


def encode_entry_id(entry_id: EntryId) -> str:
    """Return the id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"
