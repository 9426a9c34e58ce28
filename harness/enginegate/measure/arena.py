"""The arena: all engines of one model and workload, timed in interleaved blocks that reverse their order.

Block 0 runs A B C, block 1 runs C B A, and so on: every contestant once a block, on the same prompts. A drift that is
linear in time cancels exactly in each pair of blocks, and the datum is the log ratio within a block, so the machine's
speed of the day cancels too (duet benchmarking: Bulej et al., 2020, arXiv 2001.05811; here in turns, not in parallel).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from enginegate.core.errors import MeasurementError
from enginegate.core.records import ArenaEntry, Block, Round
from enginegate.core.specs import SamplingParams, Workload
from enginegate.engines.timing import Contestant, timed_answer
from enginegate.machine.cores import quietest_core
from enginegate.machine.gpu import DeviceMonitor, throttled
from enginegate.machine.load import foreign_load, read_cpu_clock, throttled_seconds
from enginegate.measure.latency import check_generations, summarise
from enginegate.measure.prompts import PromptPool


@dataclass(frozen=True)
class ArenaPolicy:
    """How rounds are taken.

    Attributes:
        warmup_rounds: rounds of every contestant that are run first and thrown away.
        foreign_load_limit: share of the machine that others may use during a round before it is repeated.
        retries: how often one disturbed round is repeated before it is kept and marked.
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
        contestants: by engine id, in the order of an even block.
        reference: id of the contestant that ratios are taken over.
        clock: seconds, monotonic.
        monitor: looks at the GPU after each round, or None on a CPU.
        stopped: why no further block was run.
    """

    contestants: Mapping[str, Contestant]
    reference: str
    workload: Workload
    prompts: PromptPool
    policy: ArenaPolicy
    clock: Callable[[], float] = time.perf_counter
    monitor: DeviceMonitor | None = None
    blocks: list[Block] = field(default_factory=list)
    stopped: str = "not started"
    _deadline: float = math.inf

    def run(self, decided: Callable[[Sequence[Block]], bool], progress: Callable[[str], None] = lambda _: None) -> None:
        """Warm up, then add blocks until ``decided(blocks)`` is true, the budget is spent or max_blocks is reached."""
        for index in range(self.policy.warmup_rounds):
            for name in self.contestants:
                self.round(name, self._prompts(-1 - index))
        self._deadline = self.clock() + self.policy.time_budget
        while not self._over(decided):
            self.blocks.append(self._block(len(self.blocks)))
            progress(f"{self.workload.id}: block {len(self.blocks)}")

    def _over(self, decided: Callable[[Sequence[Block]], bool]) -> bool:
        """Whether no further block is run; ``stopped`` says why."""
        if self.blocks and decided(self.blocks):
            self.stopped = "every gate decided"
        elif len(self.blocks) >= self.policy.max_blocks:
            self.stopped = f"{self.policy.max_blocks} blocks"
        elif self.blocks and self.clock() > self._deadline:
            self.stopped = f"time budget of {self.policy.time_budget:.0f} s spent"
        else:
            return False
        return True

    def entry(self, warnings: Sequence[str] = ()) -> ArenaEntry:
        """What happened, for the run record."""
        work = self.workload
        return ArenaEntry(
            workload=work.id,
            batch_size=work.batch_size,
            input_len=work.input_len,
            output_len=work.output_len,
            seed=work.seed,
            reference=self.reference,
            contestants=list(self.contestants),
            warmup_rounds=self.policy.warmup_rounds,
            blocks=list(self.blocks),
            stopped=self.stopped,
            warnings=[*warnings, *(self.monitor.warnings if self.monitor else ())],
        )

    def _prompts(self, round_index: int) -> list[list[int]]:
        work = self.workload
        return self.prompts.batch(work.batch_size, work.input_len, seed=work.seed, round_index=round_index)

    def _block(self, index: int) -> Block:
        order = list(self.contestants)[:: 1 if index % 2 == 0 else -1]
        prompts = self._prompts(index)
        rounds, retries = [], 0
        for name in order:
            sample = self.round(name, prompts)
            for _ in range(self.policy.retries):
                if not sample.disturbed or self.clock() > self._deadline:
                    break
                retries += 1
                sample = self.round(name, prompts)
            rounds.append(sample)
        return Block(rounds=rounds, retries=retries)

    def round(self, name: str, prompts: Sequence[Sequence[int]]) -> Round:
        """Time one contestant once, and refuse it where it did not do the work. Raises MeasurementError."""
        params = SamplingParams(max_tokens=self.workload.output_len, ignore_eos=True)
        # By the attribute, as a wrapper around an engine in a process of its own passes it on.
        children = [pid for each in self.contestants.values() if (pid := getattr(each, "pid", None))]
        with self._ready(self.contestants[name], prompts) as contestant:
            before = read_cpu_clock(children=children)
            generations, seconds = timed_answer(contestant, prompts, params, self.clock)
            after = read_cpu_clock(children=children)
        try:
            check_generations(generations, self.workload.batch_size, self.workload.output_len, seconds)
        except MeasurementError as error:
            raise MeasurementError(f"{name}, {self.workload.id}: {error.problem}", error.hint) from error
        latency = summarise(generations)
        load, held_up = foreign_load(before, after), throttled_seconds(before, after)
        device = self.monitor.read() if self.monitor else None
        intruded = bool(self.monitor and self.monitor.foreign())
        return Round(
            engine=name,
            seconds=seconds,
            tokens=sum(len(generation.token_ids) for generation in generations),
            ttft=latency.ttft,
            itl_p50=latency.itl_p50,
            itl_p95=latency.itl_p95,
            itl_p99=latency.itl_p99,
            foreign_load=load,
            throttled_seconds=held_up,
            disturbed=load > self.policy.foreign_load_limit or held_up > 0 or throttled(device) or intruded,
            device=device,
        )

    @contextmanager
    def _ready(self, contestant: Contestant, prompts: Sequence[Sequence[int]]) -> Iterator[Contestant]:
        """A GPU engine as it is in service: on a core that is not slowed by others, and not just out of its sleep.

        Seconds of sleep between turns leave its host thread and caches cold, which cost vLLM 8 ms of its first token on
        one H200. The short answer before the timed one is the same for every contestant, and is not timed.
        """
        if self.monitor is None:
            yield contestant
            return
        with quietest_core():
            getattr(contestant, "take_quietest_core", lambda: None)()
            contestant.generate([prompt[::-1] for prompt in prompts], SamplingParams(min(4, self.workload.output_len)))
            yield contestant


#: The per-round figure behind each speed metric: smaller is faster.
TIMED = {"speedup": "seconds", "ttft": "ttft", "itl": "itl_p50"}


def timed_metrics(output_len: int) -> list[str]:
    """The metrics of TIMED that answers of so many tokens have: a single token has no gap to a next one."""
    return [metric for metric in TIMED if metric != "itl" or output_len > 1]


def log_ratios(blocks: Sequence[Block], reference: str, candidate: str, metric: str = "speedup") -> list[float]:
    """Per block, log(time of the reference / time of the candidate): positive where the candidate is faster.

    Raises:
        MeasurementError: a block lacks one of the two, or a time is not a positive finite number.
    """
    attribute = TIMED[metric]
    ratios = []
    for index, block in enumerate(blocks):
        times = {entry.engine: getattr(entry, attribute) for entry in block.rounds}
        try:
            over, under = float(times[reference]), float(times[candidate])
        except KeyError as missing:
            raise MeasurementError(f"block {index} holds no round of {missing}") from None
        if not (math.isfinite(over) and math.isfinite(under) and over > 0 and under > 0):
            raise MeasurementError(f"block {index}: {metric} times {over} and {under} s are not positive numbers")
        ratios.append(math.log(over / under))
    return ratios


def disturbance(blocks: Sequence[Block]) -> tuple[float, float]:
    """Share of blocks that kept a disturbed round, and the median foreign load over all rounds."""
    if not blocks:
        return 0.0, 0.0
    disturbed = sum(any(entry.disturbed for entry in block.rounds) for block in blocks) / len(blocks)
    loads = [entry.foreign_load for block in blocks for entry in block.rounds if math.isfinite(entry.foreign_load)]
    return disturbed, statistics.median(loads) if loads else float("nan")
