"""An event loop whose time is virtual, and processes that share it and can be stopped.

Nothing is waited for: when there is nothing to do, the clock is set to the next timer. What a
process has scheduled is told by the context that it runs in, so that one process can be frozen, or
ended as a kill ends it, while the others go on. A run depends on nothing but what it is given.
"""

from __future__ import annotations

import asyncio
import selectors
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_BEGAN = 1_000.0
_MOST_TURNS = 20_000

_running: ContextVar[Process | None] = ContextVar("process", default=None)


class _Gate:
    """What a process has scheduled: run when it is due, later, or never, as the process is."""

    __slots__ = ("args", "callback", "context", "handle", "process")

    def __init__(
        self,
        process: Process,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
    ) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.context = context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.handle is not None and self.handle.cancelled():
            return
        if self.process.is_stopped:
            self.process.held.append(self)
        else:
            self.callback(*self.args)


class Process:
    """What runs together, and is stopped together.

    Args:
        machine: What the machine is called that it runs on.
        start: How often something like it was started there before.

    Attributes:
        name: What it is called in a trace.
        machine: As above.
        is_dead: Whether it was killed: nothing of it runs any more.
        is_frozen: Whether nothing of it runs until it is thawed, as after SIGSTOP.
        held: What was due meanwhile.
        tasks: Those that it has made.
    """

    def __init__(self, machine: str, start: int = 0) -> None:
        self.name = f"{machine}-{start}"
        self.machine = machine
        self.is_dead = False
        self.is_frozen = False
        self.held: list[_Gate] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of it runs at this moment."""
        return self.is_dead or self.is_frozen

    def context(self) -> Context:
        """Return the context that its tasks have to be made in."""
        context = copy_context()
        context.run(_running.set, self)
        return context

    def freeze(self) -> None:
        """Stop it until it is thawed."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on with whatever was due meanwhile."""
        self.is_frozen = False
        if not self.is_dead:
            self._release()

    def kill(self) -> None:
        """End it as a kill does: at once, and without a word."""
        self.is_dead = True

    async def bury(self) -> None:
        """End what is left of it, after everything else, so that nothing is left behind."""
        self.is_dead = self.is_frozen = False
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        self._release()
        if left:
            await asyncio.wait(left, timeout=60)

    def _release(self) -> None:
        held, self.held = self.held, []
        for gate in held:
            asyncio.get_running_loop().call_soon(gate, context=gate.context)


def current() -> Process | None:
    """Return the process whose code runs; None for that of the simulation itself."""
    return _running.get()


class _NothingHappens(selectors.SelectSelector):
    """Has no events; whoever waits for one has the clock set forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _BEGAN
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that will ever happen")
        before, self.now = self.now, self.now + max(timeout, 0.0)
        self._turns = self._turns + 1 if self.now == before else 0
        if self._turns > _MOST_TURNS:
            raise RuntimeError("the clock stands still: something happens without end")
        return []


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = _running.get() if context is None else context.get(_running)
    if process is not None:
        process.tasks = [each for each in process.tasks if not each.done()] + [task]
    return task


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The event loop of a simulation.

    Attributes:
        network: What `create_connection` connects to; set by whoever builds the world.
    """

    def __init__(self) -> None:
        self._nothing = _NothingHappens()
        super().__init__(self._nothing)
        self.network: Any = None
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._nothing.now

    def call_soon(  # type: ignore[override]  # with TypeVarTuple there, which says no more here
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule for the next turn; a process's own callbacks stop with it."""
        process = _running.get() if context is None else context.get(_running)
        if process is None or isinstance(callback, _Gate):
            return super().call_soon(callback, *args, context=context)
        context = copy_context() if context is None else context
        gate = _Gate(process, callback, args, context)
        gate.handle = super().call_soon(gate, context=context)
        return gate.handle

    def call_at(  # type: ignore[override]  # likewise
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule for a moment; likewise."""
        process = _running.get() if context is None else context.get(_running)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        context = copy_context() if context is None else context
        gate = _Gate(process, callback, args, context)
        handle = super().call_at(when, gate, context=context)
        gate.handle = handle
        return handle

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Connect to a simulated server."""
        protocol = protocol_factory()
        transport = await self.network.connect(current(), (str(host), int(port)), protocol)
        return transport, protocol


class SimulatedClock:
    """The clocks of one machine.

    Implements `revokebus.clock.Clock`.

    Args:
        loop: Tells the true time.
        began: What time it truly was when the loop began, in seconds since the epoch.

    Attributes:
        ahead: By how many seconds the wall clock is wrong.
        rate: How fast both clocks run: 1 is right.
    """

    def __init__(self, loop: SimulatedLoop, began: float) -> None:
        self._loop = loop
        self._began = began - _BEGAN
        self._since, self._elapsed_then = loop.time(), loop.time()
        self.ahead = 0.0
        self.rate = 1.0

    def elapsed(self) -> float:
        """Return seconds since some moment."""
        return self._elapsed_then + (self._loop.time() - self._since) * self.rate

    def wall(self) -> float:
        """Return seconds since the epoch, as far as this machine knows."""
        return self._began + self.elapsed() + self.ahead

    def run_at(self, rate: float) -> None:
        """Let both clocks run at another rate from now on."""
        self._elapsed_then, self._since, self.rate = self.elapsed(), self._loop.time(), rate
