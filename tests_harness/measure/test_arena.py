"""The arena on a virtual clock: order, pairing, stopping, and refusing what is not a measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.records import Block, Round
from enginegate.core.specs import Workload
from enginegate.engines.base import Generation
from enginegate.machine.load import CpuClock
from enginegate.measure import arena as arena_module
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import disturbance, log_ratios

WORK = Workload(batch_size=2, input_len=4, output_len=5)
POOL = PromptPool(tuple(range(200)))


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch):
    """What else this machine does must not move a test on a virtual clock."""
    monkeypatch.setattr(arena_module, "read_cpu_clock", lambda **_: None)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeEngine:
    """Takes ``seconds`` of virtual time for each call; ``drift`` makes the machine slower as time goes on."""

    name: str
    clock: Clock
    seconds: float
    drift: float = 0.0
    tokens: int = 5
    seen: list[object] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def generate(self, prompts, params):
        self.seen.append(prompts)
        self.log.append(self.name)
        took = self.seconds * math.exp(self.drift * (self.clock.now - 100.0))
        times = tuple(took * (index + 1) / self.tokens for index in range(self.tokens))
        self.clock.now += took
        return [Generation(tuple(range(self.tokens)), times, "length") for _ in prompts]


def make(policy=None, drift=0.0, **seconds):
    clock, log = Clock(), []
    engines = {name: FakeEngine(name, clock, value, drift, log=log) for name, value in seconds.items()}
    return Arena(engines, next(iter(engines)), WORK, POOL, policy or ArenaPolicy(), clock), engines, log


def test_order_reverses_from_block_to_block_after_the_warm_up():
    arena, _, log = make(ArenaPolicy(warmup_rounds=1, max_blocks=3), a=1.0, b=2.0, c=3.0)
    arena.run(lambda blocks: False)
    assert log == list("abc") + list("abc") + list("cba") + list("abc")
    assert [[entry.engine for entry in block.rounds] for block in arena.blocks] == [
        list("abc"),
        list("cba"),
        list("abc"),
    ]


def test_contestants_of_a_block_get_the_same_prompts_and_blocks_get_different_ones():
    arena, engines, _ = make(ArenaPolicy(warmup_rounds=1, max_blocks=2), a=1.0, b=2.0)
    arena.run(lambda blocks: False)
    assert engines["a"].seen == engines["b"].seen
    warm_up, first, second = engines["a"].seen
    assert warm_up != first != second
    assert all(len(prompt) == WORK.input_len for prompt in first)


def test_the_ratio_is_exact_and_a_steady_drift_cancels_over_a_pair_of_blocks():
    steady, _, _ = make(ArenaPolicy(max_blocks=2), a=2.0, b=1.0)
    steady.run(lambda blocks: False)
    assert log_ratios(steady.blocks, "a", "b") == pytest.approx([math.log(2)] * 2)
    # a machine whose log speed falls with the count of rounds: ABBA cancels it exactly
    rounds = [("a", 2.0), ("b", 1.0), ("b", 1.0), ("a", 2.0)]
    samples = [sample(name, base * math.exp(0.05 * turn)) for turn, (name, base) in enumerate(rounds)]
    blocks = [Block(rounds=samples[:2]), Block(rounds=samples[2:])]
    assert sum(log_ratios(blocks, "a", "b")) / 2 == pytest.approx(math.log(2))


def sample(name: str, seconds: float, disturbed: bool = False) -> Round:
    return Round(
        engine=name, seconds=seconds, tokens=10, ttft=seconds / 5, itl_p50=seconds / 5, itl_p95=seconds / 5,
        itl_p99=seconds / 5, foreign_load=0.5 if disturbed else 0.0, disturbed=disturbed,
    )  # fmt: skip


def test_it_stops_when_decided_when_the_budget_is_spent_and_at_most_max_blocks():
    decided, _, _ = make(ArenaPolicy(max_blocks=9), a=1.0, b=1.0)
    decided.run(lambda blocks: len(blocks) == 3)
    assert (len(decided.blocks), decided.stopped) == (3, "every gate decided")
    spent, _, _ = make(ArenaPolicy(warmup_rounds=1, max_blocks=9, time_budget=7.0), a=1.0, b=1.0)
    spent.run(lambda blocks: False)
    assert (len(spent.blocks), spent.stopped) == (4, "time budget of 7 s spent")
    full, _, _ = make(ArenaPolicy(max_blocks=2), a=1.0, b=1.0)
    full.run(lambda blocks: False)
    assert (len(full.blocks), full.stopped) == (2, "2 blocks")


def test_an_engine_that_does_less_work_is_refused_by_name():
    arena, engines, _ = make(a=1.0, b=1.0)
    engines["b"].tokens = 4
    with pytest.raises(MeasurementError, match=r"b, b2-i4-o5: the engine produced 4 tokens where 5 were asked"):
        arena.run(lambda blocks: False)


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -1.0, float("inf")])
def test_times_that_are_no_times_give_no_ratio(bad):
    block = Block(rounds=[sample("a", 1.0), sample("b", bad)])
    with pytest.raises(MeasurementError, match="not positive numbers"):
        log_ratios([block], "a", "b")


def test_a_block_without_the_candidate_gives_no_ratio():
    with pytest.raises(MeasurementError, match="no round of 'b'"):
        log_ratios([Block(rounds=[sample("a", 1.0)])], "a", "b")


def test_a_disturbed_round_is_repeated_and_kept_marked_when_it_stays_so(monkeypatch):
    loads = iter([0.0] * 4 + [0.5, 0.0] + [0.0] + [0.5] * 3 + [0.0] * 90)
    monkeypatch.setattr(arena_module, "read_cpu_clock", lambda **_: CpuClock(0.0, 0.0, 0.0))
    monkeypatch.setattr(arena_module, "foreign_load", lambda before, after: next(loads))
    arena, _, log = make(ArenaPolicy(warmup_rounds=2, retries=2, max_blocks=2), a=1.0, b=1.0)
    arena.run(lambda blocks: False)
    # block 0: a disturbed once, then b clean; block 1 (reversed): b disturbed three times, then a clean
    assert log[4:] == ["a", "a", "b", "b", "b", "b", "a"]
    assert [block.retries for block in arena.blocks] == [1, 2]
    assert [[entry.disturbed for entry in block.rounds] for block in arena.blocks] == [[False, False], [True, False]]
    share, _ = disturbance(arena.blocks)
    assert share == 0.5
