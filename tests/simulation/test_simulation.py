"""A fixed set of histories, and what the simulation itself is worth."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulation.faults import Event
from tests.simulation.history import Plan, run, shrunk
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.test_known_faults import KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
FIXED, PER_TEST = 40, 10
_BEHIND = "the replica that is read is behind, and the clock of the primary jumps"
FOUND_BY: Mapping[str, str] = {
    "a_bookmark_is_never_late": _BEHIND,
    "a_clock_has_no_name": _BEHIND,
    "a_few_nodes_are_enough": "the same, and the primary accepts no writes without a replica",
    "a_replica_is_believed_at_once": "the replica that is read is cut off",
    "a_step_of_the_clock_is_ignored": "an instance starts with its clock an hour ahead",
    "a_tick_only_reads": "a name leads to another server, which the former follows too late",
    "an_election_does_not_matter": "a primary is deposed, and is it again a moment later",
    "any_server_is_the_same": "an old snapshot, and who knows most is 200 ms away",
    "epoch_does_not_matter": "a meta key of another type",
    "expired_by_the_wall": "an instance starts with its clock an hour ahead",
    "first_row_may_be_missing": "a primary is alone with some instances",
    "listed_before_the_position": "an instance starts while others revoke",
    "no_hold_by_holders": "an old snapshot, and no room for what is to be written back",
    "no_hold_by_redis": "an old snapshot, and no room for a hold",
    "nobody_confirms_the_primary": "a primary is alone with some instances",
    "nothing_is_compared": "a record is deleted by hand",
    "proven_when_answered": "a primary is alone with some instances",
    "push_moves_the_position": "an instance starts while others revoke",
    "records_are_not_compared": "a record is deleted by hand",
    "rows_are_not_applied": "a meta key of another type",
    "what_was_loaded_is_not_looked_at": "the same process has older data",
}
"""Which known fault finds each mutant."""

FOUND_WITHIN = 40
"""How many histories with that fault are tried for it; most need one or two."""

UNSEEN: Mapping[str, str] = {
    "bookmarks_during_a_hold": "a replica that shows a bookmark shows the hold before it, too",
    "readers_are_not_waited_for": "who starts waits for its replica first, and the turn is noticed",
    "a_server_that_cannot_note_is_believed": "what it lacks was heard, or is a row that is missing",
    "a_write_makes_any_data_set": "what such a write loses is found by comparing",
    "failed_writes_are_dropped": "what was applied here, and Redis lacks, is found by comparing",
    "id_is_enough": "that a row was given its id anew shows in what was heard, and in the records",
    "own_writes_are_forgotten": "an author hears its own messages, which must show in the log, too",
}
"""Why some are not found: either it is not simulated, or another mechanism does the same, later."""


@pytest.mark.parametrize("first", range(0, FIXED, PER_TEST))
def test_every_promise_holds(first: int) -> None:
    """A token would be accepted after it was revoked, in a history that nobody thought of."""
    for seed in range(first, first + PER_TEST):
        outcome = run(Plan.drawn(seed))
        if outcome.violations:
            outcome = shrunk(outcome.plan)
        assert not outcome.violations, f"{outcome.plan}\n{[str(v) for v in outcome.violations]}"


@pytest.mark.parametrize("seed", range(6))
def test_without_faults_nobody_is_refused(seed: int) -> None:
    """A violation would be one of the model, not of the code."""
    outcome = run(replace(Plan.drawn(seed), events=[], pause=0.1))
    assert not outcome.violations
    assert outcome.acknowledged > 10


@pytest.mark.parametrize("mutant", sorted(FOUND_BY))
def test_a_mechanism_that_is_missing_is_noticed(mutant: str) -> None:
    """What the simulation cannot find, it does not prove."""
    known = KNOWN[FOUND_BY[mutant]]
    for seed in range(known.seed, known.seed + FOUND_WITHIN):
        plan = replace(known, seed=seed)
        with mutated(mutant):
            if run(plan).violations:
                break
    else:
        pytest.fail(f"not found within {FOUND_WITHIN} histories")
    assert not run(plan).violations


def test_no_mechanism_is_left_out() -> None:
    """Whether it is needed, or simulated at all, nobody would know."""
    assert FOUND_BY.keys() | UNSEEN.keys() == MUTANTS.keys()
    assert not FOUND_BY.keys() & UNSEEN.keys()


def test_a_history_is_the_same_each_time() -> None:
    """A seed that was found in a night of histories could not be looked at."""
    program = (
        "from tests.simulation.history import Plan, run\n"
        "for seed in (3, 4, 11):\n"
        "    outcome = run(Plan.drawn(seed))\n"
        "    print(outcome.acknowledged, outcome.seconds, *outcome.trace, sep='\\n')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    traces = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 50


def test_a_violation_is_shrunk_to_what_it_takes() -> None:
    """Of eight faults a reader would have to find the one that matters."""
    flush = Event(1.0, 0.0, "flush", 0, 0.5)
    others = [Event(at / 4, 0.0, "reset", 1, 0.5) for at in range(1, 6)]
    plan = replace(Plan.drawn(6), events=[*others, flush])
    with mutated("nothing_is_compared"):
        outcome = shrunk(plan)
    assert outcome.violations
    assert list(outcome.plan.events) == [flush]


def in_virtual_time(coroutine: object) -> float:
    """Run something, and return for how long it took by the loop's clock."""
    loop = SimulatedLoop()
    try:
        began = loop.time()
        loop.run_until_complete(coroutine)  # type: ignore[arg-type]  # whatever the loop takes
        return loop.time() - began
    finally:
        loop.close()


def test_nothing_is_waited_for() -> None:
    """An hour of a fleet's life would take an hour."""
    assert in_virtual_time(asyncio.sleep(3600)) == pytest.approx(3600)


def test_whoever_waits_for_nothing_is_noticed() -> None:
    """The simulation would stand still without a word."""
    with pytest.raises(RuntimeError, match="for nothing that will ever happen"):
        in_virtual_time(asyncio.Event().wait())


def test_what_happens_without_end_is_noticed() -> None:
    """The simulation would fill the memory, and no time pass."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="stands still"):
        in_virtual_time(spin())


def test_a_process_that_is_frozen_goes_on_where_it_stood() -> None:
    """SIGSTOP would be a kill, or nothing."""
    process, heard = Process("machine"), []

    async def count() -> None:
        while True:
            heard.append(asyncio.get_running_loop().time() - 1000)
            await asyncio.sleep(1)

    async def history() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(count(), context=process.context())
        await asyncio.sleep(2.5)
        process.freeze()
        await asyncio.sleep(10)
        process.thaw()
        await asyncio.sleep(1.5)
        process.kill()
        await asyncio.sleep(10)
        await process.bury()
        assert task.done()

    in_virtual_time(history())
    assert heard == pytest.approx([0, 1, 2, 12.5, 13.5])
