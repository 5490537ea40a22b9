"""A short cut through ``make faults``: the promises hold, and the naive control breaks them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults import failover, network, replicas, single
from tests.faults.history import Witness
from tests.faults.scenario import Run

if TYPE_CHECKING:
    from tests.faults.arena import Outcome

SHORT = {
    name: {**single.SCENARIOS, **failover.SCENARIOS, **replicas.SCENARIOS}[name]
    for name in (
        "CLIENT KILL of subscribers",
        "SIGSTOP, SIGCONT",
        "kill -9, old snapshot, half restarted",
        "FLUSHALL, half restarted",
        "output buffer limit",
        "channel rights withdrawn",
        "wall clocks stepped by an hour",
        "Sentinel: tail lost",
        "Sentinel: primary frozen",
        "Cluster: slot moved",
        "Cluster: primary frozen",
        "Replica: cut off",
        "Replica: tail lost",
    )
}
NO_NAMESPACES = network.why_not()


def short(binary: str) -> Run:
    return Run(seed=1, binary=binary, before=0.3, after=0.3, debug=True)


@pytest.mark.parametrize("name", SHORT)
def test_every_promise_holds_under(name: str, redis_binary: str) -> None:
    """A revoked token would be accepted by an instance that calls itself fresh, or be lost."""
    outcome = short(redis_binary).inject(name, SHORT[name])
    assert outcome.kept, outcome  # how fast, `make faults` judges


@pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES or "they are")
@pytest.mark.parametrize("name", network.SCENARIOS)
def test_every_promise_holds_in_a_black_hole(name: str, redis_binary: str) -> None:
    """A network that swallows everything would leave an instance fresh, or stand it still."""
    outcome = short(redis_binary).inject(name, network.SCENARIOS[name])
    assert outcome.kept, outcome  # how fast, `make faults` judges


def test_the_control_breaks_them(redis_binary: str) -> None:
    """The validators would pass anything, and the whole suite would prove nothing."""
    name = "channel rights withdrawn"
    outcome: Outcome = short(redis_binary).inject(name, SHORT[name])
    assert outcome.control > 0


class Liar:
    """An instance that knows what it is told to, and claims what it is told to."""

    def __init__(self) -> None:
        self.generation = 0
        self.known: set[str] = set()
        self.claimed: float | None = 0.0

    def knows(self, jti: str) -> bool:
        return jti in self.known

    def staleness(self) -> float | None:
        return self.claimed


@pytest.fixture
def liar() -> Liar:
    return Liar()


def witness(liar: Liar, acknowledged: dict[str, float]) -> Witness:
    return Witness(liar, acknowledged, bound=1.0, rng=random.Random(0))  # noqa: S311 - a test's


def test_a_late_revocation_breaks_g1(liar: Liar) -> None:
    """An instance that is slow and calls itself fresh would pass."""
    watching = witness(liar, {"a": 10.0})
    liar.claimed = 0.9
    watching.look(10.5)
    assert watching.verdict.violations == 0
    watching.look(11.1)
    assert (watching.verdict.bound, watching.verdict.forgotten) == ({"a"}, set())


def test_a_false_proof_breaks_g3(liar: Liar) -> None:
    """An instance that claims to be complete and is not would pass until the bound."""
    watching = witness(liar, {"a": 10.0})
    liar.claimed = 0.1
    watching.look(10.05)
    assert watching.verdict.violations == 0
    watching.look(10.2)
    assert (watching.verdict.lies, watching.verdict.bound) == ({"a"}, set())


def test_forgetting_breaks_g2(liar: Liar) -> None:
    """An instance that forgets would pass."""
    watching = witness(liar, {"a": 10.0})
    liar.known = {"a"}
    watching.look(10.1)
    liar.known = set()
    watching.look(10.2)
    assert watching.verdict.forgotten == {"a"}


def test_one_that_admits_to_be_stale_breaks_nothing(liar: Liar) -> None:
    """An instance that says that it does not know would be blamed."""
    watching = witness(liar, {"a": 10.0})
    liar.claimed = None
    watching.look(12.0)
    liar.claimed = 5.0
    watching.look(13.0)
    assert watching.verdict.violations == 0
    assert watching.stale_seconds == 1.0
    assert watching.finish() == 1


def test_a_restarted_one_begins_anew(liar: Liar) -> None:
    """A process that starts and waits for its copy would be called forgetful."""
    watching = witness(liar, {"a": 10.0})
    liar.known = {"a"}
    watching.look(10.1)
    liar.known, liar.claimed, liar.generation = set(), None, 1
    watching.look(10.2)
    assert watching.verdict.violations == 0
    liar.claimed = 0.0
    watching.look(10.3)
    assert watching.verdict.lies == {"a"}
