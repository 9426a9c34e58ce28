"""How long rounds are, and how many: the pilot's arithmetic, and races of engines on a clock of their own."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from enginegate.core.errors import EngineError
from enginegate.core.progress import Step
from enginegate.core.records import Block, LaunchEntry, Round, TrialEntry
from enginegate.core.specs import SamplingParams, Workload
from enginegate.engines.base import Generation
from enginegate.engines.timing import SelfTimed
from enginegate.measure import arena, launches
from enginegate.measure.latency import GAPS
from enginegate.measure.launches import LaunchPolicy, LaunchRace, Side
from enginegate.measure.prompts import PromptPool
from enginegate.measure.ratios import whole_answers
from enginegate.measure.rounds import (
    FEWEST_PAIRS,
    MOST_PAIRS,
    best,
    carry_over,
    lengths,
    planned,
    trial,
)

WORK = Workload(batch_size=1, input_len=4, output_len=64, seed=7)
POOL = PromptPool(tuple(range(2, 200)))


def a_round(engine: str, seconds: float, ttft: float, last: float | None = None) -> Round:
    gap = (seconds - ttft) / 3
    figures = {"ttft": ttft, **dict.fromkeys(GAPS, gap)} | ({} if last is None else {"last_token": last})
    return Round(engine=engine, seconds=seconds, tokens=4, foreign_load=0.0, figures=figures)


def blocks_of(ratios: Sequence[float], seconds: float = 0.2) -> list[Block]:
    """Pairs in turn with these log ratios, base over head."""
    pairs = [[a_round("base", seconds * math.exp(ratio), 0.05), a_round("head", seconds, 0.05)] for ratio in ratios]
    return [Block(rounds=pair[:: 1 if index % 2 == 0 else -1]) for index, pair in enumerate(pairs)]


def a_trial(tokens: int = 16, seconds: float = 0.4, first: float = 0.2, **scatter: float) -> TrialEntry:
    scatter = {"speedup": 0.05, "ttft": 0.05, "itl": 0.05} | scatter
    return TrialEntry(tokens=tokens, pairs=6, seconds=seconds, first_share=first, scatter=scatter)


def test_lengths_stop_short_of_the_whole_answer():
    assert lengths(64) == (4, 16, 64)
    assert lengths(512) == (4, 16, 64)
    assert lengths(4) == (4,)
    assert lengths(1) == (1,)


def test_a_trial_finds_the_scatter_of_its_pairs():
    ratios = np.random.default_rng(3).normal(0.0, 0.05, 400)
    found = trial(blocks_of(ratios), "base", "head", 4, 4)
    assert found.scatter["speedup"] == pytest.approx(0.05, rel=0.2)
    assert found.seconds == pytest.approx(0.4, rel=0.02)
    assert found.first_share == pytest.approx(0.25, rel=0.02)


def test_the_length_with_the_least_error_in_a_given_time_is_taken():
    """Four times as long rounds must halve the scatter to be as good."""
    short, long = a_trial(4, seconds=0.1, speedup=0.06, itl=0.06), a_trial(16, seconds=0.4, speedup=0.04, itl=0.04)
    assert best([short, long]) is short
    assert best([short, a_trial(16, seconds=0.4, speedup=0.02, itl=0.02)]).tokens == 16


@pytest.mark.parametrize(("seconds", "scatter"), [(0.2, 0.02), (0.2, 0.05), (0.05, 0.03)])
def test_the_number_of_pairs_is_the_best_of_all(seconds: float, scatter: float):
    """Against what it is said to minimize: the variance of a mean of launches in a given time."""
    loading, spread = 2.0, 0.015

    def variance_times_seconds(pairs: int) -> float:
        return (spread**2 + scatter**2 / pairs) * (loading + pairs * seconds)

    chosen = planned(
        a_trial(seconds=seconds, first=1.0, speedup=scatter, itl=scatter), loading=loading, spread=spread, limit=1e9
    )
    least = min(variance_times_seconds(count) for count in range(FEWEST_PAIRS, MOST_PAIRS + 1, 2))
    assert variance_times_seconds(chosen.pairs) <= 1.01 * least


def test_first_tokens_have_rounds_of_their_own_only_where_that_pays():
    noisy = planned(a_trial(first=0.1, ttft=0.2), loading=2.0, spread=0.01, limit=1e9)
    assert noisy.first_token_pairs > 0
    assert planned(a_trial(first=0.1, ttft=0.01), loading=2.0, spread=0.01, limit=1e9).first_token_pairs == 0
    assert planned(a_trial(first=0.7, ttft=0.2), loading=2.0, spread=0.01, limit=1e9).first_token_pairs == 0


def test_a_launch_keeps_to_its_limit():
    chosen = planned(a_trial(seconds=1.0, first=0.6, speedup=0.3, itl=0.3), loading=9.0, spread=0.01, limit=10.0)
    assert chosen.pairs == 10
    assert planned(a_trial(seconds=9.0), loading=9.0, spread=0.01, limit=10.0).pairs == FEWEST_PAIRS


def test_what_comes_after_the_last_token_comes_once_in_a_whole_answer():
    kept = whole_answers([Block(rounds=[a_round("e", 0.5, 0.1, last=0.4)])], 4, 64)[0].rounds[0]
    assert kept.seconds == pytest.approx(0.1 + 63 * 0.1 + 0.1)
    old = whole_answers([Block(rounds=[a_round("e", 0.5, 0.1)])], 4, 64)[0].rounds[0]
    assert old.seconds == pytest.approx(0.1 + 63 * 0.4 / 3)


def test_carry_over_is_the_difference_to_rounds_alone():
    noise = np.random.default_rng(5).normal(0.0, 0.002, 12)
    found = carry_over(blocks_of(noise + 0.05), blocks_of(noise[::-1]), "base", "head")
    assert found.shift == pytest.approx(0.05, abs=3 * found.error)
    assert 0 < found.error < 0.005


@dataclass
class Clockwork(SelfTimed):
    """An engine whose rounds take what it says: a first token, then equal gaps, each round times a factor."""

    first: float
    gap: float
    factors: itertools.cycle[float]
    room: list[str] = field(default_factory=list)
    name: str = ""
    asked: list[int] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)

    def ready(self) -> None:
        if "no room" in self.room and len(self.room) > 2:
            raise EngineError(f"{self.name}: out of memory", "take less")

    def timed(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> tuple[list[Generation], float]:
        count = params.max_tokens
        self.asked.append(count)
        factor = next(self.factors)
        times = tuple(factor * (self.first + index * self.gap) for index in range(count))
        answer = Generation(tuple(range(2, 2 + count)), times, "length")
        return [answer for _ in prompts], times[-1]

    def close(self) -> None:
        if self.name in self.room:
            self.room.remove(self.name)


def factors(scatter: float, seed: int) -> itertools.cycle[float]:
    chance = random.Random(seed)
    return itertools.cycle([math.exp(chance.gauss(0.0, scatter)) for _ in range(997)])


def race_of(scatter: float, policy: LaunchPolicy, *, room: bool = True, first: float = 0.02, tried=None) -> LaunchRace:
    loaded = [] if room else ["no room"]

    def side(name: str, seed: int) -> Side:
        engine = Clockwork(first, 0.01, factors(scatter, seed), loaded, name)

        def start() -> Clockwork:
            if not room:
                loaded.append(name)
            return engine

        return Side(name, start)  # type: ignore[arg-type]

    return LaunchRace(side("head", 1), side("base", 2), [(WORK, POOL)], policy, tried=tried)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launches, "_SETTLING", 0.0)
    monkeypatch.setattr(launches, "_LOOKED_AT", 0.001)
    monkeypatch.setattr(launches, "_cpu_seconds", lambda pid: 0.0)
    monkeypatch.setattr(arena, "read_cpu_clock", lambda children: None)


def quick(**others: object) -> LaunchPolicy:
    return LaunchPolicy(**{"looks": (4,), "foreign_load_limit": 1.0, **others})  # type: ignore[arg-type]


def test_a_pilot_chooses_short_rounds_where_the_scatter_is_the_same():
    race = race_of(0.05, quick())
    race.run(lambda _: False)
    (rounds,) = race.rounds.values()
    assert race.failure is None
    assert rounds.tokens == 4
    assert [each.tokens for each in rounds.tried] == [4, 16]
    assert rounds.carry_over is not None
    assert all(len(launch.blocks[WORK.id]) == rounds.pairs for launch in race.launches)
    assert all(
        entry.tokens == 4 for launch in race.launches for block in launch.blocks[WORK.id] for entry in block.rounds
    )


def test_a_pilot_serves_like_engines_once():
    tried: dict[str, list[TrialEntry]] = {}
    race_of(0.05, quick(), tried=tried).run(lambda _: False)
    second = race_of(0.05, quick(), tried=tried)
    second.run(lambda _: False)
    (rounds,) = second.rounds.values()
    assert rounds.tokens == 4
    assert rounds.tried == []


def test_first_tokens_of_long_rounds_are_taken_apart():
    race = race_of(0.2, quick(tokens=32), first=0.01)
    race.run(lambda _: False)
    (rounds,) = race.rounds.values()
    assert rounds.first_token_pairs > 0
    first = [block for launch in race.launches for block in launch.first_tokens[WORK.id]]
    assert len(first) == 4 * rounds.first_token_pairs
    assert all(entry.tokens == 1 for block in first for entry in block.rounds)


def test_what_is_configured_is_not_tried():
    race = race_of(0.05, quick(tokens=8, pairs=10))
    race.run(lambda _: False)
    (rounds,) = race.rounds.values()
    assert (rounds.tokens, rounds.pairs, rounds.tried) == (8, 10, [])


def test_two_that_do_not_fit_beside_each_other_are_loaded_in_turns():
    race = race_of(0.05, quick(), room=False)
    race.run(lambda _: False)
    assert race.failure is None
    assert "out of memory" in race.apart
    assert any("loaded beside each other" in line for line in race.warnings)
    sides = [[entry.engine for entry in launch.blocks[WORK.id][0].rounds] for launch in race.launches]
    assert sides == [["base", "head"], ["head", "base"], ["base", "head"], ["head", "base"]]


def test_one_that_cannot_be_loaded_at_all_ends_the_race():
    race = race_of(0.05, quick())

    def broken() -> None:
        raise EngineError("head: broken", "mend it")

    engine = race.head.start()
    engine.ready = broken  # type: ignore[method-assign]
    race.run(lambda _: False)
    assert race.failure is not None
    assert "broken" in race.failure.problem
    assert not race.launches


def test_a_race_comes_to_its_first_look_within_twice_its_budget():
    class Slow(LaunchRace):
        """Every launch takes 40 seconds of rounds."""

        def _launch(self, number, look):
            self.seconds += 40.0
            return LaunchEntry(blocks={}, loading=0.0)

    def launches_in(budget: float) -> int:
        race = race_of(0.05, quick(looks=(4, 6), time_budget=budget))
        slow = Slow(race.head, race.base, [(WORK, POOL)], race._policy)
        slow.run(lambda _: False)
        return len(slow.launches)

    assert launches_in(100.0) == 4
    assert launches_in(170.0) == 5
    assert launches_in(30.0) == 2


def test_progress_tells_the_time_that_is_left():
    lines: list[str] = []
    race_of(0.05, quick(looks=(4, 6))).run(lambda _: False, progress=lines.append)
    assert len(lines) == 6
    assert all("next look in " in line for line in lines[1:])
    assert all("at most" in line for line in lines[1:])
    assert lines[0].endswith(": launch 1 of 6"), "nobody knows yet how long one takes"
    shares = [line.share for line in lines[1:] if isinstance(line, Step)]
    assert len(shares) == 5
    assert all(0 < share < 1 for share in shares)
