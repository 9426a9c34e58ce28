"""The race of an engine against its live base: both are started anew, again and again, and answer in turn.

A launch serves all workloads: it is loaded once, warmed up, and takes a few pairs of rounds of each. Which side is
started first, and which runs first, alternates from launch to launch. See ``gates.launches`` for why launches count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import psutil

from enginegate.core.errors import EngineError, EngineGateError
from enginegate.core.progress import Progress, Step, duration
from enginegate.core.records import Block, LaunchEntry, RoundsEntry, TrialEntry
from enginegate.core.specs import Workload
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.gates.launches import LAUNCH_LOOKS, LAUNCH_SPREAD
from enginegate.machine.gpu import DeviceMonitor
from enginegate.machine.own_processes import within
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.rounds import TRIAL_PAIRS, best, carry_over, cost, lengths, planned, trial

#: Seconds after its turn from which an engine must be idle, and for how long that is looked at.
_SETTLING, _LOOKED_AT = 0.2, 0.3
#: Share of one core beyond which an engine that has nothing to do is not idle.
MAX_IDLE_SHARE = 0.05
#: Numbers of the first prompts of a pilot, and of rounds of first tokens: none that a launch's other rounds have.
_TRIALS, _FIRST_TOKENS = 1_000_000, 2_000_000
#: A shift of the ratio by taking turns (log) up to which nothing is said.
_CARRIED = 0.01
#: Where there is no pilot: tokens and pairs.
_TOKENS, _PAIRS = 16, 12


@dataclass(frozen=True)
class LaunchPolicy:
    """How launches are raced.

    Attributes:
        looks: numbers of launches at which the gates look; no more than the last.
        pairs: pairs of rounds of each workload in a launch, even; None: what the pilot says.
        tokens: of each answer in a round, where the workload asks for more; None: what the pilot says.
        spread: what launches are taken to differ by, for the number of pairs.
        warmup_rounds, foreign_load_limit, retries, vocabulary: as the arena's.
        time_budget: seconds of rounds after which no further launch is made; loading does not count. To come to the
            first look, without which nothing is decided, a race may take twice as many.
    """

    looks: tuple[int, ...] = LAUNCH_LOOKS
    pairs: int | None = None
    tokens: int | None = None
    spread: float = LAUNCH_SPREAD.scale
    warmup_rounds: int = 2
    foreign_load_limit: float = 0.10
    retries: int = 2
    time_budget: float = 120.0
    vocabulary: int | None = None

    @property
    def most(self) -> int:
        """The most launches."""
        return self.looks[-1]


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
        tried: by workload, what pilots of like engines found; what is missing is tried in the first launch, and added.

    Attributes:
        launches: those so far.
        rounds: by workload, how its rounds are taken; known after the first launch.
        apart: why the two are loaded in turns; empty where they stand beside each other.
        stopped: why there was no further launch.
        failure: what ended the race before its time, if anything did.
        warnings: what weakens it.
        seconds: of rounds so far; loading and the pilot's do not count.
        piloting: seconds of the pilot's rounds.
    """

    def __init__(
        self,
        head: Side,
        base: Side,
        works: Sequence[tuple[Workload, PromptPool]],
        policy: LaunchPolicy,
        monitor: Callable[[], DeviceMonitor | None] = lambda: None,
        tried: dict[str, list[TrialEntry]] | None = None,
    ) -> None:
        self.head, self.base = head, base
        self._works = tuple(works)
        self._policy = policy
        self._monitor = monitor
        self._tried = {} if tried is None else tried
        self.launches: list[LaunchEntry] = []
        self.rounds: dict[str, RoundsEntry] = {}
        self.apart = ""
        self.stopped = "not started"
        self.failure: EngineGateError | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0
        self.piloting = 0.0

    def run(
        self,
        decided: Callable[[Sequence[LaunchEntry]], bool],
        look: Callable[[str, ChildEngine], None] = lambda *_: None,
        progress: Progress = lambda _: None,
    ) -> None:
        """Launch until ``decided(launches)`` is true, the budget is spent, or the last look is reached.

        Args:
            decided: whether enough is known.
            look: called with each side's name and engine in the first launch, before it is timed; what it raises ends
                the race.
            progress: told as each launch starts, with the time that is left; never while a round is timed.
        """
        policy, begun = self._policy, time.monotonic()
        while True:
            number = len(self.launches)
            if number >= policy.most:
                self.stopped = f"{policy.most} launches"
            elif number and decided(self.launches):
                self.stopped = "every gate decided"
            elif number and self.seconds > policy.time_budget * (1 if number >= policy.looks[0] else 2):
                self.stopped = f"time budget of {policy.time_budget:.0f} s spent"
            else:
                progress(self._step(number, time.monotonic() - begun))
                try:
                    self.launches.append(self._launch(number, look if number == 0 else lambda *_: None))
                    continue
                except EngineGateError as error:
                    self.failure = error
                    self.stopped = f"launch {number + 1} failed: {error.problem}"
            return

    def _step(self, number: int, elapsed: float) -> Step:
        """The launch that starts now, how long it may take to the next look, and at most."""
        policy = self._policy
        task, at = f"race of {self.head.name}", f"launch {number + 1} of {policy.most}"
        if not number:
            return Step(task, at)
        each = elapsed / number
        look = next(count for count in policy.looks if count > number)
        fits = max(1.0, (policy.time_budget - self.seconds) / max(self.seconds / number, 1e-9))
        most = min(policy.most - number, math.ceil(fits))
        left = each * most
        at += f", next look in {duration(each * min(look - number, most))}"
        return Step(task, at, share=elapsed / (elapsed + left) if left else None, left=left, at_most=True)

    def _launch(self, number: int, look: Callable[[str, ChildEngine], None]) -> LaunchEntry:
        sides = (self.base, self.head) if number % 2 == 0 else (self.head, self.base)
        if self.apart:
            return self._launched_apart(number, sides, look)
        try:
            return self._launched_together(number, sides, look)
        except _NotLoadedError as error:
            if number:
                raise error.reason from None
            self.apart = error.reason.problem
        entry = self._launched_apart(number, sides, look)  # raises where one cannot be loaded alone either
        self._warn(
            "the two cannot be loaded beside each other, so they were in turns, and their rounds are further apart in"
            f" time: {self.apart}"
        )
        return entry

    def _launched_together(
        self, number: int, sides: Sequence[Side], look: Callable[[str, ChildEngine], None]
    ) -> LaunchEntry:
        begun = time.perf_counter()
        with _started(sides) as engines:
            for engine in engines.values():
                try:
                    engine.ready()
                except EngineError as error:
                    raise _NotLoadedError(error) from error
            loading = time.perf_counter() - begun
            for side in (self.head, self.base):
                look(side.name, engines[side.name])
            monitor = self._monitor()
            blocks, first = {}, {}
            for workload, prompts in self._works:
                race = _Rounds(self._policy, dict(engines), self.base.name, workload, prompts, monitor)
                if workload.id not in self.rounds:
                    self.rounds[workload.id] = self._planned(race, loading)
                rounds, begun = self.rounds[workload.id], time.perf_counter()
                blocks[workload.id] = race.take(rounds.tokens, rounds.pairs, number * rounds.pairs)
                if rounds.first_token_pairs:
                    count = rounds.first_token_pairs
                    first[workload.id] = race.take(1, count, _FIRST_TOKENS + number * count)
                self.seconds += time.perf_counter() - begun
            idle = idle_shares(engines)
        for line in monitor.warnings if monitor else ():
            self._warn(line)
        for name, share in idle.items():
            if share > MAX_IDLE_SHARE:
                self._warn(
                    f"{name} takes {share:.0%} of a core while it is not its turn: the two are not on equal terms"
                )
        return LaunchEntry(blocks=blocks, loading=loading, first_tokens=first, idle=idle)

    def _launched_apart(
        self, number: int, sides: Sequence[Side], look: Callable[[str, ChildEngine], None]
    ) -> LaunchEntry:
        """One side after the other: the second is loaded when the first is gone."""
        loading, parts = 0.0, []
        for side in sides:
            begun = time.perf_counter()
            with _started([side]) as engines:
                engines[side.name].ready()
                loading += time.perf_counter() - begun
                look(side.name, engines[side.name])
                monitor, taken = self._monitor(), {}
                for workload, prompts in self._works:
                    begun = time.perf_counter()
                    race = _Rounds(self._policy, dict(engines), side.name, workload, prompts, monitor)
                    rounds = self.rounds.setdefault(workload.id, self._unplanned(workload))
                    taken[workload.id] = race.take(rounds.tokens, rounds.pairs, number * rounds.pairs)
                    self.seconds += time.perf_counter() - begun
                for line in monitor.warnings if monitor else ():
                    self._warn(line)
            parts.append(taken)
        blocks = {
            work: [
                Block(rounds=[*one.rounds, *other.rounds], retries=one.retries + other.retries)
                for one, other in zip(parts[0][work], parts[1][work], strict=True)
            ]
            for work in parts[0]
        }
        return LaunchEntry(blocks=blocks, loading=loading)

    def _planned(self, race: _Rounds, loading: float) -> RoundsEntry:
        """How the rounds of a workload are taken: as configured, else by a pilot, else by one of like engines."""
        policy, work = self._policy, race.workload
        fixed = None if policy.tokens is None else min(policy.tokens, work.output_len)
        if fixed is not None and policy.pairs is not None:
            return RoundsEntry(tokens=fixed, pairs=policy.pairs)
        known, carried = self._tried.get(work.id, []), None
        trials = list(known)
        if not known:
            begun, turns = time.perf_counter(), {}
            for tokens in lengths(work.output_len) if fixed is None else (fixed,):
                turns[tokens] = race.take(tokens, TRIAL_PAIRS, _TRIALS)
                trials.append(trial(turns[tokens], self.base.name, self.head.name, tokens, work.output_len))
                if len(trials) > 1 and cost(trials[-1]) > cost(trials[-2]):
                    break
            self._tried[work.id] = trials
            if work.id == self._works[0][0].id:
                tokens = best(trials).tokens
                alone = race.alone(tokens, TRIAL_PAIRS)
                carried = carry_over(turns[tokens], alone, self.base.name, self.head.name)
            self.piloting += time.perf_counter() - begun
            if carried is not None and abs(carried.shift) > max(_CARRIED, 3 * carried.error):
                self._warn(
                    f"{work.id}: taking turns moves the ratio by {carried.shift:+.1%} (standard error"
                    f" {carried.error:.1%}) from that of rounds alone"
                )
        plan = planned(
            best(trials),
            loading=loading / len(self._works),
            spread=policy.spread,
            limit=policy.time_budget / policy.looks[min(1, len(policy.looks) - 1)] / len(self._works),
        )
        return plan.model_copy(
            update={
                "pairs": policy.pairs or plan.pairs,
                "tried": [] if known else trials,
                "carry_over": None if carried is None else (carried.shift, carried.error),
            }
        )

    def _unplanned(self, workload: Workload) -> RoundsEntry:
        """Without a pilot, which needs both beside each other."""
        tokens = min(self._policy.tokens or _TOKENS, workload.output_len)
        return RoundsEntry(tokens=tokens, pairs=self._policy.pairs or _PAIRS)

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


class _NotLoadedError(Exception):
    """One side was not loaded while the other was there, or loading, too."""

    def __init__(self, reason: EngineError) -> None:
        super().__init__(reason.problem)
        self.reason = reason


@dataclass(frozen=True)
class _Rounds:
    """What takes rounds of one workload in one launch."""

    policy: LaunchPolicy
    engines: dict[str, ChildEngine]
    base: str
    workload: Workload
    prompts: PromptPool
    monitor: DeviceMonitor | None

    def take(self, tokens: int, count: int, first: int) -> list[Block]:
        """Blocks of answers of so many tokens, with the prompts from a number on. Raises what ended one side."""
        arena = self._arena(tokens, count, first)
        arena.run(lambda _: False)
        for name in self.engines:
            if name in arena.failures:
                raise arena.failures[name]
        return arena.blocks

    def alone(self, tokens: int, count: int) -> list[Block]:
        """Blocks of which each round came after another one of the same side."""
        arena, work = self._arena(tokens, count, _TRIALS), self.workload
        blocks = []
        for index in range(count):
            prompts = self.prompts.batch(
                work.batch_size, work.input_len, seed=work.seed, round_index=_TRIALS + count + index
            )
            rounds = []
            for name in sorted(self.engines, reverse=index % 2 == 1):
                arena.round(name, [prompt[::-1] for prompt in prompts])
                rounds.append(arena.round(name, prompts))
            blocks.append(Block(rounds=rounds))
        return blocks

    def _arena(self, tokens: int, count: int, first: int) -> Arena:
        policy = self.policy
        return Arena(
            dict(self.engines),
            self.base,
            replace(self.workload, output_len=min(self.workload.output_len, tokens)),
            self.prompts,
            ArenaPolicy(policy.warmup_rounds, policy.foreign_load_limit, policy.retries, math.inf, count),
            monitor=self.monitor,
            first=first,
            vocabulary=policy.vocabulary,
        )


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
    before = {name: _cpu_seconds(engine) for name, engine in engines.items()}
    begun = time.perf_counter()
    time.sleep(_LOOKED_AT)
    wall = time.perf_counter() - begun
    return {name: max(0.0, _cpu_seconds(engine) - before[name]) / wall for name, engine in engines.items()}


def _cpu_seconds(engine: ChildEngine) -> float:
    """What an engine's process and all below it have used, in a container, too; what is gone has used nothing."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(engine.pid)
        family = {process, *process.children(recursive=True), *within(engine.namespace)}
        for each in family:
            with suppress(psutil.Error):
                times = each.cpu_times()
                total += times.user + times.system
    return total
