"""The arena: all engines of one model and workload, timed in interleaved blocks whose order is balanced.

Every contestant runs once a block, on the same prompts, in the order of enginegate.measure.order. The datum is the log
ratio within a block, so the machine's speed of the day cancels (duet benchmarking: Bulej et al., 2020, arXiv
2001.05811; here in turns, not in parallel). A contestant that fails leaves the race, and the others go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from enginegate.core.errors import EngineError, EngineGateError, MeasurementError, edge
from enginegate.core.progress import Progress, Step
from enginegate.core.records import ArenaEntry, Block, Round
from enginegate.core.specs import SamplingParams, Workload
from enginegate.engines.answers import checked_answers
from enginegate.engines.base import Generation
from enginegate.engines.timing import Contestant, timed_answer
from enginegate.machine.cores import quietest_core
from enginegate.machine.energy import EnergyMeter
from enginegate.machine.gpu import DeviceMonitor, throttled
from enginegate.machine.load import CLOCK_TICK, CpuClock, foreign_load, read_cpu_clock, throttled_seconds
from enginegate.measure.latency import check_generations, summarise
from enginegate.measure.order import block_order
from enginegate.measure.prompts import PromptPool

#: Answers, seconds, the processor's clocks before and after, and joules where they are counted.
_Answered: TypeAlias = "tuple[list[Generation], float, CpuClock | None, CpuClock | None, float | None]"


#: Of the load in short rounds, at most so much is put down to the clock's ticks.
_MOST_CHANCE = 0.2
#: Rounds that may be repeated before it counts how many were.
_ALWAYS_REPEATED = 8
#: Tokens of an answer to warm up with on a CPU, at most. On a GPU what is compiled or captured may hang on the length.
_WARM_TOKENS = 16


@dataclass(frozen=True)
class ArenaPolicy:
    """How rounds are taken.

    Attributes:
        warmup_rounds: rounds of every contestant that are run first and thrown away; on a CPU with short answers.
        foreign_load_limit: share of the machine that others may use during a round before it is repeated.
        retries: how often one disturbed round is repeated before it is kept and marked; no more than every second
            round or so, as repeating helps only where few are disturbed.
        time_budget: seconds, counted from the end of the warm-up, after which no further block is started.
        max_blocks: no more blocks than this.
    """

    warmup_rounds: int = 2
    foreign_load_limit: float = 0.10
    retries: int = 2
    time_budget: float = 120.0
    max_blocks: int = 40


@dataclass
class Arena:
    """One workload's contestants and the blocks they have run.

    Attributes:
        contestants: by engine id, all that start, in the order of the first block.
        reference: id of the contestant that ratios are taken over.
        clock: seconds, monotonic.
        monitor: looks at the GPU after each round, or None on a CPU.
        twins: contestants that stand next to each other in every block and alternate, a tuple of ids for each unit;
            who is in none of them stands alone.
        first: number of the first block, which decides its prompts.
        vocabulary: token ids of answers lie below it; None where nobody knows.
        meter: counts the energy of each round; None where nothing does.
        works: where contestants do work of their own instead of ``workload``, by name: one engine at several sizes.
        stopped: why no further block was run.
        failures: who left the race, and why. Its rounds stay in the blocks, and are no sample of it. Where the
            reference fails everyone has left.
    """

    contestants: Mapping[str, Contestant]
    reference: str
    workload: Workload
    prompts: PromptPool
    policy: ArenaPolicy
    clock: Callable[[], float] = time.perf_counter
    monitor: DeviceMonitor | None = None
    twins: Sequence[Sequence[str]] = ()
    first: int = 0
    vocabulary: int | None = None
    meter: EnergyMeter | None = None
    works: Mapping[str, Workload] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    stopped: str = "not started"
    failures: dict[str, EngineGateError] = field(default_factory=dict)
    _deadline: float = math.inf
    _units: list[list[str]] = field(default_factory=list)

    @property
    def racing(self) -> list[str]:
        """Who is still in the race."""
        return [name for name in self.contestants if name not in self.failures]

    def leave(self, name: str, reason: EngineGateError) -> None:
        """Take a contestant out of the race; with the reference everyone leaves: there is nothing to compare with."""
        self.failures[name] = reason
        if name == self.reference:
            for other in self.racing:
                self.failures[other] = MeasurementError(f"the reference left the race: {reason.problem}", reason.hint)

    def run(self, decided: Callable[[Sequence[Block]], bool], progress: Progress = lambda _: None) -> None:
        """Warm up, then add blocks until ``decided(blocks)`` is true, the budget is spent or max_blocks is reached.

        ``progress`` is told between two blocks, never while a round is timed.
        """
        count, most = 0, self.policy.warmup_rounds * len(self.contestants)
        for index in range(self.policy.warmup_rounds):
            for name in self.contestants:
                progress(Step(self._task, f"round {count + 1} of {most} to warm up", share=count / most))
                self._turn(name, self._prompts(-1 - index, name), self._warming(name))
                count += 1
        begun = self.clock()
        self._deadline = begun + self.policy.time_budget
        while not self._over(decided):
            self.blocks.append(self._block(len(self.blocks)))
            progress(self._step(begun))

    @property
    def _task(self) -> str:
        return f"timing {self.workload.id}"

    def _step(self, begun: float) -> Step:
        """Where it is, and the longest that it may take: to the last block, or to the end of the budget."""
        done, most, now = len(self.blocks), self.policy.max_blocks, self.clock()
        left = max(0.0, min((now - begun) / done * (most - done), self._deadline - now))
        share = (now - begun) / (now - begun + left) if left else 1.0
        return Step(self._task, f"block {done} of at most {most}", share=share, left=left, at_most=True)

    def _over(self, decided: Callable[[Sequence[Block]], bool]) -> bool:
        """Whether no further block is run; ``stopped`` says why."""
        if self.reference in self.failures:
            self.stopped = f"the reference {self.reference} failed"
        elif self.failures and self.racing == [self.reference]:
            self.stopped = "nobody is left to race against the reference"
        elif self.blocks and decided(self.blocks):
            self.stopped = "every gate decided"
        elif len(self.blocks) >= self.policy.max_blocks:
            self.stopped = f"{self.policy.max_blocks} blocks"
        elif self.blocks and self.clock() > self._deadline:
            self.stopped = f"time budget of {self.policy.time_budget:.0f} s spent"
        else:
            return False
        return True

    def entry(self) -> ArenaEntry:
        """What happened, for the run record."""
        work = self.workload
        return ArenaEntry(
            workload=work.id,
            batch_size=work.batch_size,
            input_len=work.input_len,
            output_len=work.output_len,
            seed=work.seed,
            reference=self.reference,
            contestants=self.racing,
            warmup_rounds=self.policy.warmup_rounds,
            blocks=list(self.blocks),
            stopped=self.stopped,
            warnings=list(self.monitor.warnings) if self.monitor else [],
            failures={name: reason.problem for name, reason in self.failures.items()},
        )

    def _work(self, name: str) -> Workload:
        return self.works.get(name, self.workload)

    def _warming(self, name: str) -> Workload:
        work = self._work(name)
        return work if self.monitor else replace(work, output_len=min(work.output_len, _WARM_TOKENS))

    def _prompts(self, round_index: int, name: str = "") -> list[list[int]]:
        work = self._work(name)
        return self.prompts.batch(work.batch_size, work.input_len, seed=work.seed, round_index=round_index)

    def _block(self, index: int) -> Block:
        rounds, retries = [], 0
        for name in self._order(index):
            prompts = self._prompts(self.first + index, name)
            sample = self._turn(name, prompts)
            for _ in range(self.policy.retries):
                if sample is None or not sample.disturbed or self.clock() > self._deadline or self._pointless(retries):
                    break
                retries += 1
                sample = self._turn(name, prompts)
            if sample is not None:
                rounds.append(sample)
        return Block(rounds=rounds, retries=retries)

    def _pointless(self, retries: int) -> bool:
        """Whether a round need not be repeated: where most are disturbed, others come back disturbed, too."""
        blocks = self.blocks
        taken = sum(len(block.rounds) for block in blocks)
        return sum(block.retries for block in blocks) + retries > _ALWAYS_REPEATED + taken / 2

    def _order(self, index: int) -> list[str]:
        """Who runs in this block. An odd block reverses the one before it, whoever has left since."""
        if index % 2 == 0:
            together = {name: unit for unit in self.twins for name in unit}
            units = dict.fromkeys(tuple(together.get(name, (name,))) for name in self.racing)
            self._units = [[name for name in unit if name in self.racing] for unit in units]
        return [name for name in block_order(self._units, index) if name in self.racing]

    def _turn(self, name: str, prompts: Sequence[Sequence[int]], work: Workload | None = None) -> Round | None:
        """A round of a contestant, or None where it has left the race, in this very round or before."""
        if name in self.failures:
            return None
        try:
            answered = self._answered(name, prompts, work or self._work(name))
        except EngineGateError as reason:
            self.leave(name, reason)
            return None
        return self._measured(name, answered)

    def round(self, name: str, prompts: Sequence[Sequence[int]]) -> Round:
        """Time one contestant once, outside of any block. Raises EngineGateError where it did not do the work."""
        return self._measured(name, self._answered(name, prompts, self._work(name)))

    def _answered(self, name: str, prompts: Sequence[Sequence[int]], work: Workload) -> _Answered:
        """A contestant's answers, the seconds they took, and the processor's clocks before and after.

        Whatever its library raises is an EngineError, so that it costs this contestant alone.
        """
        params = SamplingParams(max_tokens=work.output_len, ignore_eos=True)
        # By the attribute, as a wrapper around an engine in a process of its own passes it on.
        children = [pid for each in self.contestants.values() if (pid := getattr(each, "pid", None))]
        where = f"{name}, {work.id}"
        hint = "run its tests alone, and look into the engine's own log"
        try:
            with edge(EngineError, f"{where}: the engine failed in its round", hint):
                with self._ready(self.contestants[name], prompts, work) as contestant:
                    before, spent = read_cpu_clock(children=children), self._spent()
                    given, seconds = timed_answer(contestant, prompts, params, self.clock)
                    joules = self.meter.between(spent, self._spent()) if self.meter else None
                    after = read_cpu_clock(children=children)
                generations = checked_answers(where, given, self.vocabulary)
                check_generations(generations, work.batch_size, work.output_len, seconds)
        except MeasurementError as error:
            raise MeasurementError(f"{where}: {error.problem}", error.hint) from error
        return generations, seconds, before, after, joules

    def _spent(self) -> list[float] | None:
        return self.meter.read() if self.meter else None

    def _measured(self, name: str, answered: _Answered) -> Round:
        generations, seconds, before, after, joules = answered
        load, held_up = foreign_load(before, after), throttled_seconds(before, after)
        device = self.monitor.read() if self.monitor else None
        intruded = bool(self.monitor and self.monitor.foreign())
        limit = self.policy.foreign_load_limit + min(_MOST_CHANCE, CLOCK_TICK / seconds)
        return Round(
            engine=name,
            seconds=seconds,
            tokens=sum(len(generation.token_ids) for generation in generations),
            foreign_load=load,
            figures=summarise(generations) | ({} if joules is None else {"joules": joules}),
            throttled_seconds=held_up,
            disturbed=load > limit or held_up > 0 or throttled(device) or intruded,
            device=device,
        )

    @contextmanager
    def _ready(self, contestant: Contestant, prompts: Sequence[Sequence[int]], work: Workload) -> Iterator[Contestant]:
        """A GPU engine as it is in service: on a core that is not slowed by others, and not just out of its sleep.

        Seconds of sleep between turns leave its host thread and caches cold, which cost vLLM 8 ms of its first token on
        one H200. The short answer before the timed one is the same for every contestant, and is not timed.
        """
        if self.monitor is None:
            yield contestant
            return
        with quietest_core():
            getattr(contestant, "take_quietest_core", lambda: None)()
            contestant.generate([prompt[::-1] for prompt in prompts], SamplingParams(min(4, work.output_len)))
            yield contestant
