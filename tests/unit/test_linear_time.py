"""What others write is read in linear time: patterns and payloads, counted in steps."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import revokebus
from revokebus.clock import ExpiryClock, SystemClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol import wire
from revokebus.protocol.revocation import Kept, Revocation
from revokebus.protocol.wire import Message, decode_payload, encode_payload
from revokebus.replication.applier import Applier
from revokebus.replication.feed import Feed
from revokebus.replication.repair import Repair
from revokebus.store.exchanges import Exchanges
from revokebus.telemetry.conditions import Conditions
from revokebus.telemetry.counters import Counters
from revokebus.testing import ManualClock
from tests.backtracking import Matcher, Steps, TooManyStepsError, attacks

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("revokebus.cli.__main__", "revokebus.demo.__main__", "revokebus.demo.app")
"""Modules that do something when they are imported."""

# How each compiled pattern of the package is used. Patterns of settings are pydantic's, whose
# engine has no backtracking.
USES = {
    "revokebus.tokens.claims._SCOPE": "fullmatch",
    "revokebus.compat.fastapi_jwt_auth.codec._SEGMENT": "fullmatch",
    "revokebus.keys.hmac_secret._PEM": "search",
    "revokebus.keys.hmac_secret._SSH": "match",
    "revokebus.denylist.packing._BASE64": "fullmatch",
    "revokebus.denylist.packing._UUID": "fullmatch",
    "revokebus.tokens.verifier._COMPACT": "fullmatch",
    "revokebus.web.refusals._NOT_QUOTABLE": "search",
    "revokebus.web.sources._SCHEME": "match",
    "revokebus.protocol.wire._HEAD": "match",
    "revokebus.protocol.wire._HEAD_BEGINS": "match",
    "revokebus.protocol.wire._INQUIRY": "fullmatch",
    "revokebus.protocol.wire._INSTANCE": "fullmatch",
    "revokebus.protocol.wire._PLAIN_LINE": "search",
    "revokebus.protocol.wire._PLAIN_ROW": "match",
    "revokebus.protocol.wire._ENTRY_ID": "fullmatch",
    "revokebus.protocol.bookmark._FORM": "fullmatch",
    "revokebus.protocol.sign_in._ENTRY": "fullmatch",
    "revokebus.protocol.heartbeat._BEAT": "fullmatch",
    "revokebus.store.instances._ENTRY": "fullmatch",
}
# The pattern for a payload of several rows as it once was. Both alternatives of a value match the
# ids that RevokeBus makes, so *n* rows before one that is not plain took 2^n steps.
_FORMER_ROW = (
    rb'\["[ !#-\[\]-~]{0,2048}","[ !#-\[\]-~]{1,256}",'
    rb'"(?:(?:[A-Za-z0-9_-]{21}[AQgw])|(?:[ !#-\[\]-~]{1,8192}))",[1-9]\d{0,10}\.0,null\]'
)
FORMER = re.compile(rb"2 \[%s(?:,%s)+\]" % (_FORMER_ROW, _FORMER_ROW))
STEPS_PER_BYTE = 12
LENGTHS = (8, 64, 512)


@cache
def patterns() -> dict[str, re.Pattern[Any]]:
    found = {}
    for module in pkgutil.walk_packages(revokebus.__path__, "revokebus."):
        if module.name not in PROGRAMS:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    found[f"{module.name}.{name}"] = value
    return found


def worst(pattern: re.Pattern[Any], use: str) -> float:
    """Return the most steps for a byte that text made to be slow takes."""
    ratio = 0.0
    for begin, repeated in attacks(pattern):
        for count in LENGTHS:
            for end in ("\x00", "\n", ""):
                text = begin + repeated * count + end
                steps = Steps(STEPS_PER_BYTE * (len(text) + 16))
                Matcher(pattern, text, steps).run(use)
                ratio = max(ratio, steps.made / (len(text) + 16))
    return ratio


def test_it_is_known_how_each_pattern_is_used() -> None:
    """A new pattern would never be tried against text that is made to be slow."""
    assert sorted(patterns()) == sorted(USES)


@pytest.mark.parametrize("name", USES)
def test_no_pattern_can_be_made_slow(name: str) -> None:
    """A client, or a stranger on the channel, could stop a process with one text."""
    assert 0 < worst(patterns()[name], USES[name]) <= STEPS_PER_BYTE


@pytest.mark.parametrize(
    ("pattern", "use"),
    [(FORMER, "fullmatch"), (re.compile(r"-{4,}\s*(BEGIN|END)\b"), "search")],
    ids=["exponential", "quadratic"],
)
def test_what_was_slow_is_found(pattern: re.Pattern[Any], use: str) -> None:
    """The test above would pass whatever the patterns are."""
    with pytest.raises(TooManyStepsError):
        worst(pattern, use)


texts = st.lists(
    st.sampled_from(["2 [", "]", '["","jti","', "A" * 22, '"', ",1.0,null]", ",", "\n", "--", "x"])
    | st.sampled_from(["RB ", "RQ ", "0" * 32, "1-2 ", "BEGIN", " ", "ssh-", ".", "é", "9" * 16]),
    max_size=12,
).map("".join)


@given(texts, st.sampled_from(sorted(USES)))
def test_the_counting_matcher_finds_what_re_does(text: str, name: str) -> None:
    """Steps would be counted of a matcher that does something else."""
    pattern, use = patterns()[name], USES[name]
    real = getattr(pattern, use)(text if isinstance(pattern.pattern, str) else text.encode("latin"))
    assert Matcher(pattern, text, Steps(10**6)).run(use) == (real and real.span())


# Rows of every kind: plain, with a cut-off, a number, an escape, no whole second.
VALUES = ["A" * 22, "-_" * 10 + "0w", "auth0|5f7c", "é", 'quo"te', "x" * 300, 7, 2.5, True]
rows = st.builds(
    Revocation,
    claim=st.sampled_from(["jti", "sid", "sub"]),
    value=st.sampled_from(VALUES),
    expires_at=st.sampled_from([2e9, 2e9 + 0.5, 1.0]),
    issued_before=st.sampled_from([None, None, 1e9]),
    issuer=st.sampled_from(["", "https://idp.example"]),
    kept=st.none() | st.builds(Kept, st.sampled_from(["s", "x" * 4096]), st.just(0.0)),
).map(lambda each: each if each.issued_before else each._replace(kept=None))
foreign = st.sampled_from([b"", b"2 [", b"2 [}", b'2 [["","jti","a",1.0,null],', b"\n", b"3 []"])


class Counted:
    """A pattern of `wire` that counts the steps of each match."""

    def __init__(self, pattern: re.Pattern[bytes], steps: Steps) -> None:
        self._pattern = pattern
        self._steps = steps
        self.pattern = pattern.pattern

    def match(self, text: bytes, at: int = 0) -> re.Match[bytes] | None:
        Matcher(self._pattern, text.decode("latin"), self._steps).run("match", at)
        return self._pattern.match(text, at)

    def fullmatch(self, text: bytes) -> re.Match[bytes] | None:
        Matcher(self._pattern, text.decode("latin"), self._steps).run("fullmatch")
        return self._pattern.fullmatch(text)

    def findall(self, text: bytes) -> list[tuple[bytes, ...]]:
        Matcher(self._pattern, text.decode("latin"), self._steps).find_all()
        return self._pattern.findall(text)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions `work` calls, those written in C included."""
    count = 0

    def note(_frame: object, kind: str, _argument: object) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def applied(payloads: list[bytes | None]) -> Denylist:
    """Apply as a start does, and return the copy."""
    clock = ManualClock()
    denylist, counters = Denylist(ExpiryClock(clock)), Counters()
    applier = Applier(
        denylist, Repair(denylist, Exchanges(clock), counters), Conditions(), Feed(clock)
    )
    work = applier.apply_all("row", payloads)
    with suppress(StopIteration):
        while True:
            work.send(None)
    return denylist


@settings(max_examples=15)
@given(
    st.lists(st.lists(rows, min_size=1, max_size=30).map(encode_payload) | foreign, max_size=6),
    st.integers(1, 40),
)
def test_long_mixed_payloads_take_steps_in_proportion(kinds: list[bytes], times: int) -> None:
    """One batch of a cut-off behind some log-outs would hang every instance."""
    long = [
        encode_payload(decode_payload(each) * times)
        for each in kinds
        if each[:3] == b"2 [" and each[-2:] == b"]]"
    ]
    payloads: list[bytes | None] = [*kinds, *long]
    size = sum(len(each or b"") for each in payloads)
    steps = Steps(3 * STEPS_PER_BYTE * (size + 100))  # each payload is tried in up to three ways
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_PLAIN_LINE", "_PLAIN_ROW"):
            patch.setattr(wire, name, Counted(getattr(wire, name), steps))
        applied(payloads)


@given(st.lists(rows, min_size=1, max_size=60), st.sampled_from([20, 60]))
@settings(max_examples=25)
def test_thousands_of_rows_take_calls_in_proportion(some: list[Revocation], times: int) -> None:
    """A start would take hours where the log has long rows, and no health check would answer."""
    numbered = [
        each._replace(value=f"{each.value}-{number}") for number, each in enumerate(some * times)
    ]
    payload = encode_payload(numbered)
    assert calls_of(lambda: applied([payload])) <= 60 * len(numbered) + 500


def test_a_long_payload_is_applied_in_parts() -> None:
    """One payload of a stranger's would hold the event loop for as long as it is."""
    last = time.time() + 600
    mixed = [Revocation("jti", f"token-{n}", last // 1) for n in range(5000)]
    mixed.append(Revocation("sub", "alice", last, last - 900))
    for payload in (encode_payload(mixed), encode_payload(mixed[:-1])):
        denylist, turns = Denylist(ExpiryClock(SystemClock())), 0
        repair = Repair(denylist, Exchanges(SystemClock()), Counters())
        applier = Applier(denylist, repair, Conditions(), Feed(SystemClock()))
        work = applier.hear(Message("0" * 32, (1, 0), (2, 0), payload))
        with suppress(StopIteration):
            while True:
                work.send(None)
                turns += 1
                assert len(denylist) <= 200 * turns  # what was applied before each turn
        assert turns >= len(mixed) // 200 - 1
        assert len(denylist) >= 5000
