"""The arena on a virtual clock: order, pairing, stopping, and refusing what is not a measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from enginegate.core.errors import EngineError, MeasurementError
from enginegate.core.progress import Step
from enginegate.core.records import Block, Round
from enginegate.core.specs import Workload
from enginegate.engines.base import Generation
from enginegate.machine.load import CpuClock
from enginegate.measure import arena as arena_module
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.latency import GAPS
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import disturbance, has_value, log_ratios, orders, timed_metrics

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
    """Takes ``seconds`` of virtual time for each call; ``drift`` makes the machine slower as time goes on.

    ``lasts``: calls that it answers before its library fails.
    """

    name: str
    clock: Clock
    seconds: float
    drift: float = 0.0
    tokens: int = 5
    lasts: float = math.inf
    seen: list[object] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def generate(self, prompts, params):
        self.seen.append(prompts)
        self.log.append(self.name)
        if len(self.seen) > self.lasts:
            raise RuntimeError("out of memory")
        took = self.seconds * math.exp(self.drift * (self.clock.now - 100.0))
        times = tuple(took * (index + 1) / self.tokens for index in range(self.tokens))
        self.clock.now += took
        return [Generation(tuple(range(self.tokens)), times, "length") for _ in prompts]


def make(policy=None, drift=0.0, **seconds):
    clock, log = Clock(), []
    engines = {name: FakeEngine(name, clock, value, drift, log=log) for name, value in seconds.items()}
    return Arena(engines, next(iter(engines)), WORK, POOL, policy or ArenaPolicy(), clock), engines, log


def ran(arena) -> list[str]:
    return ["".join(entry.engine for entry in block.rounds) for block in arena.blocks]


def test_blocks_after_the_warm_up_follow_williams_squares_and_are_kept_in_that_order():
    """They were abc, cba, abc, ...: b always ran after a or c, and a after b alone."""
    arena, _, log = make(ArenaPolicy(warmup_rounds=1, max_blocks=6), a=1.0, b=2.0, c=3.0)
    arena.run(lambda blocks: False)
    assert ran(arena) == ["abc", "cba", "bca", "acb", "cab", "bac"]
    assert "".join(log) == "abc" + "".join(ran(arena))
    assert orders(arena.blocks, "a", "c") == [1, -1, -1, 1, -1, 1]


def test_twins_stand_next_to_each_other_and_alternate():
    arena, _, _ = make(ArenaPolicy(warmup_rounds=1, max_blocks=12), a=1.0, b=1.0, c=1.0, d=1.0)
    arena.twins = [("b", "d")]
    arena.run(lambda blocks: False)
    assert [("bd" in row) - ("db" in row) for row in ran(arena)] == [1, -1] * 3 + [-1, 1] * 3
    assert ran(arena)[:2] == ["abdc", "cdba"]


def failing(policy=None, **lasts):
    arena, engines, log = make(policy or ArenaPolicy(warmup_rounds=1, max_blocks=6), a=1.0, b=2.0, c=3.0)
    for name, count in lasts.items():
        engines[name].lasts = count
    arena.run(lambda blocks: False)
    return arena, log


def test_who_fails_leaves_and_the_others_go_on():
    """It took the arena down with an exception."""
    arena, log = failing(b=3)  # answers the warm-up and two blocks
    assert ran(arena) == ["abc", "cba", "ca", "ac", "ac", "ca"], "an odd block reverses the one before"
    assert log.count("b") == 4, "asked once more, and never again"
    assert log_ratios(arena.blocks, "a", "c") == pytest.approx([-math.log(3)] * 6)
    assert orders(arena.blocks, "a", "c") == [1, -1, -1, 1, 1, -1]
    with pytest.raises(MeasurementError, match="block 2 holds no round of 'b'"):
        log_ratios(arena.blocks, "a", "b")
    entry = arena.entry()
    assert entry.contestants == ["a", "c"]
    assert entry.failures == {"b": "b, b2-i4-o5: the engine failed in its round: RuntimeError: out of memory"}
    assert isinstance(arena.failures["b"], EngineError)


def test_who_fails_in_the_second_of_two_blocks_leaves_the_others_in_both_orders():
    arena, _ = failing(b=2)
    assert ran(arena)[:2] == ["abc", "ca"]
    assert sum(orders(arena.blocks, "a", "c")) == 0


def test_who_fails_in_the_warm_up_is_in_no_block():
    arena, log = failing(ArenaPolicy(warmup_rounds=2, max_blocks=2), c=0)
    assert ran(arena) == ["ab", "ba"]
    assert log.count("c") == 1
    assert list(arena.entry().failures) == ["c"]


def test_the_race_is_over_where_the_reference_fails_and_everyone_is_told_why():
    arena, log = failing(a=2)
    assert arena.stopped == "the reference a failed"
    assert ran(arena) == ["abc", "cb"]
    assert log[-1] == "a", "nobody ran after that"
    entry = arena.entry()
    assert entry.contestants == []
    assert list(entry.failures) == ["a", "b", "c"]
    assert all("a, b2-i4-o5: the engine failed in its round" in reason for reason in entry.failures.values())


def test_the_race_is_over_where_the_reference_is_left_alone():
    arena, _ = failing(b=2, c=3)
    assert arena.stopped == "nobody is left to race against the reference"
    assert len(arena.blocks) == 3
    assert arena.entry().contestants == ["a"]


def test_what_the_harness_itself_cannot_do_is_no_fault_of_an_engine():
    class Monitor:
        def foreign(self):
            return {}

        def read(self):
            raise OSError("no NVML")

    arena, _, _ = make(a=1.0, b=1.0)
    arena.monitor = Monitor()
    with pytest.raises(OSError, match="no NVML"):
        arena.run(lambda blocks: False)
    assert arena.failures == {}


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
    figures = dict.fromkeys(("ttft", *GAPS), seconds / 5)
    load = 0.5 if disturbed else 0.0
    return Round(engine=name, seconds=seconds, tokens=10, foreign_load=load, figures=figures, disturbed=disturbed)


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
    arena, engines, _ = make(ArenaPolicy(max_blocks=2), a=1.0, b=1.0, c=1.0)
    engines["b"].tokens = 4
    arena.run(lambda blocks: False)
    assert isinstance(arena.failures["b"], MeasurementError)
    assert arena.failures["b"].problem == "b, b2-i4-o5: the engine produced 4 tokens where 5 were asked (sequence 0)"
    assert ran(arena) == ["ac", "ca"]
    with pytest.raises(MeasurementError, match="produced 4 tokens where 5 were asked"):
        arena.round("b", arena._prompts(0))


def test_a_single_token_has_no_latency_between_tokens_and_all_else():
    assert timed_metrics(1) == ["speedup", "ttft"]
    without = [sample("a", 2.0), sample("b", 1.0)]
    without[1] = without[1].model_copy(update={"figures": {"ttft": 0.2}})
    blocks = [Block(rounds=without)]
    assert log_ratios(blocks, "a", "b", "ttft") == pytest.approx([math.log(2)])
    assert [has_value(blocks, who, "itl") for who in (["a"], ["b"], ["a", "b"])] == [True, False, False]
    with pytest.raises(MeasurementError, match="a round of b has no itl") as caught:
        log_ratios(blocks, "a", "b", "itl")
    assert "a single token has no inter-token latency" in caught.value.hint


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


def test_where_every_round_is_disturbed_they_are_not_all_repeated(monkeypatch):
    monkeypatch.setattr(arena_module, "read_cpu_clock", lambda **_: CpuClock(0.0, 0.0, 0.0))
    monkeypatch.setattr(arena_module, "foreign_load", lambda before, after: 0.9)
    arena, _, _ = make(ArenaPolicy(warmup_rounds=1, retries=2, max_blocks=40, time_budget=1e9), a=1.0, b=1.0)
    arena.run(lambda blocks: False)
    taken, repeated = sum(len(block.rounds) for block in arena.blocks), sum(block.retries for block in arena.blocks)
    assert taken == 80
    assert 30 <= repeated <= taken / 2 + 10
    assert disturbance(arena.blocks)[0] == 1.0


def test_progress_is_told_between_rounds_and_never_while_one_is_timed():
    """Drawing beside a round would be timed with it."""
    arena, engines, _ = make(ArenaPolicy(warmup_rounds=1, max_blocks=4), a=1.0, b=2.0)
    answering: list[str] = []
    steps: list[Step] = []

    def progress(text):
        assert not answering
        steps.append(text)

    for engine in engines.values():
        engine.generate = _noting(engine.generate, engine.name, answering)
    arena.run(lambda _: False, progress)
    assert all(isinstance(step, Step) for step in steps)
    assert steps[:2] == [f"timing b2-i4-o5: round {number} of 2 to warm up" for number in (1, 2)]
    assert steps[2:] == [
        "timing b2-i4-o5: block 1 of at most 4, at most 9 s left",
        "timing b2-i4-o5: block 2 of at most 4, at most 6 s left",
        "timing b2-i4-o5: block 3 of at most 4, at most 3 s left",
        "timing b2-i4-o5: block 4 of at most 4, at most 0 s left",
    ]
    assert [step.share for step in steps[2:]] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def _noting(generate, name, answering):
    def noted(prompts, params):
        answering.append(name)
        given = generate(prompts, params)
        answering.remove(name)
        return given

    return noted


def test_the_time_left_is_no_longer_than_the_budget():
    arena, _, _ = make(ArenaPolicy(warmup_rounds=0, max_blocks=40, time_budget=10.0), a=1.0, b=2.0)
    steps: list[Step] = []
    arena.run(lambda _: False, steps.append)
    assert steps[0] == "timing b2-i4-o5: block 1 of at most 40, at most 7 s left"
    assert steps[0].share == pytest.approx(0.3)
    assert steps[-1].share == 1.0
