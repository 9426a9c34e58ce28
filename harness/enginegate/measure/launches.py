"""The race of an engine against its live base: both are started anew, again and again, and answer in turn.

A launch serves all workloads: it is loaded once, warmed up, and takes a few pairs of rounds of each. Which side is
started first, and which runs first, alternates from launch to launch. See ``gates.launches`` for why launches count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import psutil

from enginegate.core.errors import EngineGateError
from enginegate.core.records import Block, LaunchEntry
from enginegate.core.specs import Workload
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool

#: Seconds after its turn from which an engine must be idle, and for how long that is looked at.
_SETTLING, _LOOKED_AT = 0.2, 0.3
#: Share of one core beyond which an engine that has nothing to do is not idle.
MAX_IDLE_SHARE = 0.05


@dataclass(frozen=True)
class LaunchPolicy:
    """How launches are raced.

    Attributes:
        most: no more launches than this.
        pairs: pairs of rounds of each workload in a launch, even, so that each side runs first equally often.
        tokens: of each answer in a round, where the workload asks for more: many short rounds tell more than few long
            ones in the same time (docs/gates.md).
        warmup_rounds, foreign_load_limit, retries: as the arena's.
        time_budget: seconds of rounds after which no further launch is made; loading does not count.
    """

    most: int = 16
    pairs: int = 12
    tokens: int = 16
    warmup_rounds: int = 2
    foreign_load_limit: float = 0.10
    retries: int = 2
    time_budget: float = 120.0


@dataclass(frozen=True)
class Side:
    """One side: its name, and what starts it anew. The engine loads in the background until ``ready`` is called."""

    name: str
    start: Callable[[], ChildEngine]


class LaunchRace:
    """Two sides and what they have run.

    Args:
        head, base: the sides.
        works: the workloads, each with the prompts of its rounds.
        policy: see LaunchPolicy.
        monitor: makes what looks at the GPU once both are loaded; gives None on a CPU.

    Attributes:
        launches: those so far.
        stopped: why there was no further one.
        failure: what ended the race before its time, if anything did.
        warnings: what weakens it.
        seconds: of rounds so far, loading apart.
    """

    def __init__(
        self,
        head: Side,
        base: Side,
        works: Sequence[tuple[Workload, PromptPool]],
        policy: LaunchPolicy,
        monitor: Callable[[], DeviceMonitor | None] = lambda: None,
    ) -> None:
        self.head, self.base = head, base
        self._works = tuple(works)
        self._policy = policy
        self._monitor = monitor
        self.launches: list[LaunchEntry] = []
        self.stopped = "not started"
        self.failure: EngineGateError | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0

    def run(
        self,
        decided: Callable[[Sequence[LaunchEntry]], bool],
        look: Callable[[str, ChildEngine], None] = lambda *_: None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Launch until ``decided(launches)`` is true, the budget is spent, or ``most`` is reached.

        Args:
            decided: whether enough is known.
            look: called with each side's name and engine in the first launch, before it is timed; what it raises ends
                the race.
            progress: told one line as each launch starts.
        """
        policy = self._policy
        while True:
            number = len(self.launches)
            if number and decided(self.launches):
                self.stopped = "every gate decided"
            elif number >= policy.most:
                self.stopped = f"{policy.most} launches"
            elif number and self.seconds > policy.time_budget:
                self.stopped = f"time budget of {policy.time_budget:.0f} s spent"
            else:
                progress(f"{self.head.name}: launch {number + 1} beside {self.base.name}")
                try:
                    self.launches.append(self._launch(number, look if number == 0 else lambda *_: None))
                    continue
                except EngineGateError as error:
                    self.failure = error
                    self.stopped = f"launch {number + 1} failed: {error.problem}"
            return

    def _launch(self, number: int, look: Callable[[str, ChildEngine], None]) -> LaunchEntry:
        sides = (self.base, self.head) if number % 2 == 0 else (self.head, self.base)
        begun = time.perf_counter()
        with _started(sides) as engines:
            for engine in engines.values():
                engine.ready()
            loading = time.perf_counter() - begun
            for side in (self.head, self.base):
                look(side.name, engines[side.name])
            monitor = self._monitor()
            blocks = {}
            for workload, prompts in self._works:
                begun = time.perf_counter()
                blocks[workload.id] = self._rounds(number, engines, workload, prompts, monitor)
                self.seconds += time.perf_counter() - begun
            idle = idle_shares(engines)
        for line in monitor.warnings if monitor else ():
            self._warn(line)
        for name, share in idle.items():
            if share > MAX_IDLE_SHARE:
                self._warn(
                    f"{name} takes {share:.0%} of a core while it is not its turn: the two are not on equal terms"
                )
        return LaunchEntry(blocks=blocks, loading=loading, idle=idle)

    def _rounds(
        self,
        number: int,
        engines: dict[str, ChildEngine],
        workload: Workload,
        prompts: PromptPool,
        monitor: DeviceMonitor | None,
    ) -> list[Block]:
        policy = self._policy
        arena = Arena(
            dict(engines),
            self.base.name,
            self.shortened(workload),
            prompts,
            ArenaPolicy(policy.warmup_rounds, policy.foreign_load_limit, policy.retries, max_blocks=policy.pairs),
            monitor=monitor,
            first=number * policy.pairs,
        )
        arena.run(lambda _: False)
        for name in (self.base.name, self.head.name):
            if name in arena.failures:
                raise arena.failures[name]
        return arena.blocks

    def shortened(self, workload: Workload) -> Workload:
        """The work of one round."""
        return replace(workload, output_len=min(workload.output_len, self._policy.tokens))

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


@contextmanager
def _started(sides: Sequence[Side]) -> Iterator[dict[str, ChildEngine]]:
    """Both engines, started in this order, loading beside each other; they are ended at the end, whatever happens."""
    engines: dict[str, ChildEngine] = {}
    with ExitStack() as stack:  # which closes the other, too, where closing one is interrupted
        for side in sides:
            engine = engines[side.name] = side.start()
            stack.callback(_close, engine)
        yield engines


def _close(engine: ChildEngine) -> None:
    with suppress(EngineGateError):
        engine.close()


def idle_shares(engines: dict[str, ChildEngine]) -> dict[str, float]:
    """By engine, the share of one core that its process takes while nothing is asked of it."""
    time.sleep(_SETTLING)
    before = {name: _cpu_seconds(engine.pid) for name, engine in engines.items()}
    begun = time.perf_counter()
    time.sleep(_LOOKED_AT)
    wall = time.perf_counter() - begun
    return {name: max(0.0, _cpu_seconds(engine.pid) - before[name]) / wall for name, engine in engines.items()}


def _cpu_seconds(pid: int) -> float:
    """What a process and all below it have used; what is gone has used nothing."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system
    return total
