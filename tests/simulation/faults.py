"""What can go wrong, each as a thing that is done at a moment and, where it lasts, undone later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.data import Stream

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.loop import Process
    from tests.simulation.network import Way
    from tests.simulation.server import Server
    from tests.simulation.servers import Topology
    from tests.simulation.world import Instance, World

_KEYS = (b"meta", b"log", b"hold", b"repair", b"instances", b"record", b"session", b"starts")
_NAMED = {b"record": b"{revokebus}:r:", b"session": b"{revokebus}:s:"}


@dataclass(frozen=True, slots=True)
class Event:
    """One fault of a history.

    Attributes:
        at: When it is done, in seconds after the beginning.
        lasts: After how many seconds it is undone; 0 for what is over at once.
        kind: Its name, one of `FAULTS`.
        which: Which instance, server or key it is done to, as far as there are so many.
        amount: How much, where it has a size.
    """

    at: float
    lasts: float
    kind: str
    which: int
    amount: float

    def __str__(self) -> str:
        until = f" to {self.at + self.lasts:.3f}" if self.lasts else ""
        return f"{self.at:.3f}{until} {self.kind} which={self.which} amount={self.amount:.4g}"


def _instance(world: World, event: Event) -> Instance:
    return world.instances[event.which % len(world.instances)]


def _key(world: World, event: Event) -> bytes | None:
    kind = _KEYS[event.which % len(_KEYS)]
    if kind not in _NAMED:
        return b"{revokebus}:" + kind
    keys = [key for key in world.servers.primary.data.values if key.startswith(_NAMED[kind])]
    return keys[int(event.amount * len(keys))] if keys else None


def _set(thing: object, name: str, *, to: object, well: object) -> Callable[[], None]:
    """Change something, and return what makes it well again: two faults may overlap."""
    setattr(thing, name, to)
    return lambda: setattr(thing, name, well)


def _undo_all(undo: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def undo_each() -> None:
        for each in undo:
            each()

    return undo_each


def _ways(world: World, event: Event) -> list[Way]:
    process = _instance(world, event).process
    return [world.network.way(process, each.process) for each in world.servers.all]


# The network


def _cut(world: World, event: Event) -> Any:
    return _undo_all([_set(way, "is_cut", to=True, well=False) for way in _ways(world, event)])


def _lose_answers(world: World, event: Event) -> Any:
    return _undo_all(
        [_set(way, "loses_answers", to=True, well=False) for way in _ways(world, event)]
    )


def _slow(world: World, event: Event) -> Any:
    undo = []
    for way in _ways(world, event):
        latency, jitter = way.usual
        undo.append(_set(way, "latency", to=0.15 * event.amount, well=latency))
        undo.append(_set(way, "jitter", to=0.02 * event.amount, well=jitter))
    return _undo_all(undo)


def _part(world: World, event: Event) -> Any:
    """The primary is alone with some instances; the others replace it if that lasts."""
    return world.servers.part(*_sides(world, event))


def _part_fenced(world: World, event: Event) -> Any:
    """The same, but it accepts no writes then, and a Sentinel says that it is the primary."""
    return world.servers.part(*_sides(world, event), is_fenced=True)


def _sides(world: World, event: Event) -> tuple[list[Process], list[Process]]:
    sides: tuple[list[Process], list[Process]] = [], []
    for number, each in enumerate(world.instances):
        sides[(number + event.which) % 2].append(each.process)
    return sides


def _reset(world: World, event: Event) -> Any:
    world.network.cut_connections(_instance(world, event).process, None)


def _reset_all(world: World, _: Event) -> Any:
    world.network.cut_connections(None, None)


def _cut_subscribers(world: World, _: Event) -> Any:
    world.servers.primary.cut_subscribers()


# Instances


def _kill_instance(world: World, event: Event) -> Any:
    instance = _instance(world, event)
    if not instance.is_up:
        return None
    instance.kill()
    return instance.start


def _freeze_instance(world: World, event: Event) -> Any:
    instance = _instance(world, event)
    if not instance.is_up:
        return None
    process = instance.process
    process.freeze()
    return process.thaw


def _restart_instance(world: World, event: Event) -> Any:
    instance = _instance(world, event)
    if instance.is_up and instance.starting.done():
        world.later(instance.restart())


def _step_instance(world: World, event: Event) -> Any:
    return _set(_instance(world, event).clock, "ahead", to=(event.amount - 0.5) * 7200, well=0.0)


def _drift_instance(world: World, event: Event) -> Any:
    clock = _instance(world, event).clock
    clock.run_at(1 + (event.amount - 0.5) * 0.001)
    return lambda: clock.run_at(1.0)


# Servers


def _frozen(server: Server) -> Callable[[], None]:
    process = server.process
    process.freeze()

    def undo() -> None:
        if process.is_frozen:
            process.thaw()

    return undo


def _freeze_server(world: World, _: Event) -> Any:
    return _frozen(world.servers.primary)


def _killed(server: Server, snapshot: Callable[[], Any]) -> Any:
    server.kill()

    def undo() -> None:
        if server.process.is_dead:
            server.start(snapshot())

    return undo


def _restart_server(world: World, _: Event) -> Any:
    """Killed, and started again with what it had, as with an append-only file."""
    server = world.servers.primary
    if server.process.is_dead:
        return None
    saved = server.data.saved()
    return _killed(server, lambda: saved)


def _empty_server(world: World, _: Event) -> Any:
    server = world.servers.primary
    if server.process.is_dead:
        return None
    return _killed(server, lambda: ({}, {}))


def _old_server(world: World, _: Event) -> Any:
    """Killed, and started again with what it had some time before."""
    server = world.servers.primary
    if server.process.is_dead:
        return None
    return _killed(server, lambda: server.saved)


def _save(world: World, _: Event) -> Any:
    server = world.servers.primary
    server.saved = server.data.saved()


def _reload(world: World, _: Event) -> Any:
    """The same process holds what it had some time before, as after DEBUG RELOAD."""
    server = world.servers.primary
    if not server.process.is_dead:
        world.tells_of_reload = server.reload(server.saved)


def _orphan_repair(world: World, _: Event) -> Any:
    """Somebody holds the lock of repairs, and never ends."""
    server = world.servers.primary
    if not server.process.is_dead:
        server.execute([b"SET", b"{revokebus}:repair", b"somebody"])


def _flush(world: World, _: Event) -> Any:
    server = world.servers.primary
    if not server.process.is_dead:
        server.execute([b"FLUSHALL"])


def _fill(world: World, _: Event) -> Any:
    return _set(world.servers.primary, "is_full", to=True, well=False)


def _fill_replicas(world: World, _: Event) -> Any:
    """The replicas have other limits, which show once one of them is the primary."""
    return _undo_all(
        [_set(each, "is_full", to=True, well=False) for each in world.servers.replicas]
    )


def _evict(world: World, event: Event) -> Any:
    """Redis is full of something else, and makes room of the oldest keys that have a TTL."""
    server = world.servers.primary
    if server.process.is_dead:
        return None
    keys = [key for key in server.data.live() if key.startswith(tuple(_NAMED.values()))]
    for key in keys[: int(event.amount * len(keys))]:
        server.execute([b"DEL", key])
    return _set(server, "policy", to="volatile-lru", well="noeviction")


def _lose_sentinels(world: World, event: Event) -> Any:
    """Some Sentinels answer no more; or all of them."""
    lost = world.servers.sentinels[: 1 + event.which % 3]
    for each in lost:
        each.process.freeze()
    return _undo_all([each.process.thaw for each in lost])


def _cannot_save(world: World, _: Event) -> Any:
    return _set(world.servers.primary, "cannot_save", to=True, well=False)


def _fence(world: World, _: Event) -> Any:
    return _set(world.servers.primary, "min_replicas", to=9, well=0)


def _crowd(world: World, _: Event) -> Any:
    return _set(world.servers.primary, "most_clients", to=0, well=10_000)


def _forget_scripts(world: World, _: Event) -> Any:
    world.servers.primary.flush_scripts()


def _step_server(world: World, event: Event) -> Any:
    return _set(world.servers.primary.clock, "ahead", to=(event.amount - 0.5) * 7200, well=0.0)


def _lag(world: World, _: Event) -> Any:
    """The replica gets nothing any more."""
    return _undo_all(
        [_set(link, "is_cut", to=True, well=False) for link in world.servers.primary.replicas]
    )


def _delay(world: World, event: Event) -> Any:
    """Everything reaches the replicas some time later, in its order."""
    links = world.servers.primary.replicas
    return _undo_all([_set(each, "delay", to=6 * event.amount**2, well=0.0) for each in links])


def _nudge_server(world: World, event: Event) -> Any:
    return _set(world.servers.primary.clock, "ahead", to=4 * (event.amount - 0.5), well=0.0)


def _fail_over(world: World, _: Event) -> Any:
    """As an operator has it: at once, with whatever the replica has got."""
    candidates = [each for each in world.servers.replicas if not each.process.is_dead]
    if candidates:
        world.servers.fail_over(candidates[0])


def _move_slot(world: World, _: Event) -> Any:
    world.servers.move_slot()


def _replica(world: World) -> Server | None:
    return next((each for each in world.servers.replicas if not each.process.is_dead), None)


def _freeze_replica(world: World, _: Event) -> Any:
    replica = _replica(world)
    return None if replica is None else _frozen(replica)


def _restart_replica(world: World, _: Event) -> Any:
    """Killed, and started again empty, until it has copied everything."""
    replica = _replica(world)
    if replica is None:
        return None
    replica.kill()

    def undo() -> None:
        if replica.process.is_dead:
            replica.come_back()

    return undo


def _step_replica(world: World, event: Event) -> Any:
    if (replica := _replica(world)) is not None:
        return _set(replica.clock, "ahead", to=(event.amount - 0.5) * 7200, well=0.0)
    return None


def _cut_from(world: World, event: Event, servers: Sequence[Server]) -> Any:
    process = _instance(world, event).process
    ways = [world.network.way(process, each.process) for each in servers]
    return _undo_all([_set(way, "is_cut", to=True, well=False) for way in ways])


def _cut_from_replica(world: World, event: Event) -> Any:
    return _cut_from(world, event, world.servers.replicas)


def _cut_from_primary(world: World, event: Event) -> Any:
    return _cut_from(world, event, [world.servers.primary])


# Keys


def _delete(world: World, event: Event) -> Any:
    if (key := _key(world, event)) is not None:
        world.servers.primary.execute([b"DEL", key])


def _rename(world: World, event: Event) -> Any:
    if (key := _key(world, event)) is not None:
        world.servers.primary.execute([b"RENAME", key, b"elsewhere"])


def _wrong_type(world: World, event: Event) -> Any:
    if (key := _key(world, event)) is None:
        return
    server = world.servers.primary
    held = server.data.get(key)
    server.data.put(key, {b"a": b"b"} if isinstance(held, bytes | Stream) else b"x", None)


def _without_end(world: World, event: Event) -> Any:
    if (key := _key(world, event)) is not None:
        world.servers.primary.execute([b"PERSIST", key])


FAULTS: Mapping[str, Callable[[World, Event], Any]] = {
    function.__name__.strip("_"): function
    for function in (
        _cut,
        _lose_answers,
        _slow,
        _part,
        _part_fenced,
        _reset,
        _reset_all,
        _cut_subscribers,
        _kill_instance,
        _freeze_instance,
        _restart_instance,
        _step_instance,
        _drift_instance,
        _freeze_server,
        _restart_server,
        _empty_server,
        _old_server,
        _save,
        _reload,
        _orphan_repair,
        _flush,
        _fill,
        _fill_replicas,
        _evict,
        _lose_sentinels,
        _cannot_save,
        _fence,
        _crowd,
        _forget_scripts,
        _step_server,
        _lag,
        _fail_over,
        _move_slot,
        _delay,
        _nudge_server,
        _freeze_replica,
        _restart_replica,
        _step_replica,
        _cut_from_replica,
        _cut_from_primary,
        _delete,
        _rename,
        _wrong_type,
        _without_end,
    )
}
ON_KEYS = frozenset({"evict", "step_server", "delete", "rename", "wrong_type"})
"""Those that take single records away, which leaves no trace in the log."""

NOT_FOR_SESSIONS = frozenset({"step_instance", "step_server", "wrong_type"})
"""Those that may sign someone out: clocks that differ too much, and records that none can read."""

_OF_READERS = frozenset(
    {
        "delay",
        "nudge_server",
        "freeze_replica",
        "restart_replica",
        "step_replica",
        "cut_from_replica",
        "cut_from_primary",
    }
)
_LASTING = _OF_READERS | frozenset(
    {
        "cut",
        "lose_answers",
        "slow",
        "part",
        "part_fenced",
        "kill_instance",
        "freeze_instance",
        "step_instance",
        "drift_instance",
        "freeze_server",
        "restart_server",
        "empty_server",
        "old_server",
        "fill",
        "fill_replicas",
        "evict",
        "lose_sentinels",
        "cannot_save",
        "fence",
        "crowd",
        "step_server",
        "lag",
    }
)
_WHERE: Mapping[str, frozenset[str]] = {
    "part": frozenset({"sentinel", "cluster"}),
    "part_fenced": frozenset({"sentinel", "cluster"}),
    "fill_replicas": frozenset({"address", "sentinel", "cluster"}),
    "lose_sentinels": frozenset({"sentinel"}),
    "lag": frozenset({"replica", "address", "sentinel", "cluster"}),
    "fail_over": frozenset({"address", "sentinel", "cluster"}),
    "move_slot": frozenset({"cluster"}),
}


def drawn(
    rng: random.Random, topology: Topology, seconds: float, count: int, *, reads: bool
) -> list[Event]:
    """Return some faults, in the order of their moments.

    Args:
        rng: Draws.
        topology: The servers.
        seconds: Within how many seconds.
        count: How many.
        reads: Whether some instances read from a replica.
    """
    kinds = [
        kind
        for kind in FAULTS
        if topology in _WHERE.get(kind, (topology,)) and (reads or kind not in _OF_READERS)
    ]
    events = []
    for _ in range(count):
        kind = rng.choice(kinds)
        at = rng.uniform(0.0, seconds)
        longest = rng.choice((0.1, 0.6, 2.5))
        lasts = min(rng.uniform(0.0, longest), seconds - at) if kind in _LASTING else 0.0
        events.append(Event(at, lasts, kind, rng.randrange(12), rng.random()))
    return sorted(events, key=lambda event: event.at)
