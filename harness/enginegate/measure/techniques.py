"""Techniques of serving: what is served with each and without it, and what is read off the events.

A run is a few bursts: requests that arrive over time, and the next burst when the last of them is answered. Both
engines of a pair serve the same requests, and no two pairs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival, ServingEvent
from enginegate.measure.prompts import PromptPool

#: What an engine may have otherwise: fields of RuntimeSpec.
Change = Mapping[str, object]
#: Requests that arrive over time, and what came of them.
Burst = Sequence[Arrival]
Served = tuple[Burst, Sequence[ServingEvent]]


#: A prompt that is long enough to see what its prefill costs.
_LONG = 512


@dataclass(frozen=True)
class Kit:
    """What loads are made of.

    Attributes:
        spec: the engine; its limits bound every request.
        pool: text that prompts are cut from.
        seed: of the prompts.
        pace: seconds that ``spec.max_batch_size`` short requests take together, measured; what arrives in the midst of
            them is timed by it.
    """

    spec: EngineSpec
    pool: PromptPool
    seed: int
    pace: float = 0.0

    def prompts(self, count: int, length: int, number: int) -> list[tuple[int, ...]]:
        """Prompts of run ``number``."""
        return [tuple(each) for each in self.pool.batch(count, length, seed=self.seed, round_index=number)]

    def share(self, whole: int, part: float) -> int:
        """A part of a limit, one token at least."""
        return max(1, int(whole * part))


@dataclass(frozen=True)
class Technique:
    """One of them.

    Attributes:
        title: for tables.
        on, off: what the two engines of a pair have otherwise than the engine under test; None: they are one engine,
            which serves ``again`` right after.
        load: what a run serves.
        figures: what is read off a run.
        judged: the figure that its gate compares.
        higher: whether more of it is better.
        says: the load, in words.
        same_tokens: whether tokens are compared, too.
    """

    title: str
    on: Change
    off: Change
    load: Callable[[Kit, int], Sequence[Burst]]
    figures: Callable[[Sequence[Served]], dict[str, float]]
    judged: str
    higher: bool
    says: str
    same_tokens: bool = False


@dataclass
class _Life:
    """One request of a run."""

    sent: float = math.nan
    first: float = math.nan
    end: float = math.nan
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def lives(served: Served) -> list[_Life]:
    """What became of each request of a burst, in the order of the arrivals."""
    burst, events = served
    found = [_Life() for _ in burst]
    for event in events:
        life = found[event.request]
        if event.kind == "sent":
            life.sent = event.time
        elif event.kind == "tokens":
            life.first = event.time if math.isnan(life.first) else life.first
            life.times.append(event.time)
            life.sizes.append(len(event.token_ids))
        else:
            life.end = event.time
    return found


def tokens_of(served: Served) -> list[tuple[int, ...]]:
    """The tokens of each request of a burst."""
    burst, events = served
    found: list[list[int]] = [[] for _ in burst]
    for event in events:
        found[event.request] += event.token_ids
    return [tuple(each) for each in found]


def ttft(burst: Burst, life: _Life, index: int) -> float:
    """From when a request was due to its first token, seconds."""
    return life.first - burst[index].time


def overtaken(served: Served) -> int:
    """The most requests that arrived after another one and had their first token before it."""
    first = [life.first for life in lives(served)]
    return max((sum(later < mine for later in first[index + 1 :]) for index, mine in enumerate(first)), default=0)


# Speculation: prompts that say the same twice and stop in the midst of the second time, one at a time.


def _repeating(kit: Kit, number: int) -> Sequence[Burst]:
    length = min(256, kit.share(kit.spec.max_input_len, 2 / 3)) // 2 * 2
    output = min(48, kit.spec.max_output_len)
    halves = kit.prompts(3, max(1, length // 2), number)
    prompts = [(half + half[: max(1, len(half) // 2)])[: kit.spec.max_input_len] for half in halves]
    return [[Arrival(prompt, SamplingParams(output), 0.0)] for prompt in prompts]


def _plain(kit: Kit, number: int) -> Sequence[Burst]:
    prompts = kit.prompts(3, min(64, kit.spec.max_input_len), number)
    return [[Arrival(prompt, SamplingParams(min(48, kit.spec.max_output_len)), 0.0)] for prompt in prompts]


def _speculation(run: Sequence[Served]) -> dict[str, float]:
    """Decode speed and tokens a step. What the first step gives comes of the prompt, and is not guessed."""
    every = [life for served in run for life in lives(served)]
    tokens = sum(sum(life.sizes[1:]) for life in every)
    steps = sum(len(life.sizes) - 1 for life in every)
    seconds = sum(life.end - life.first for life in every)
    return {
        "tokens_per_second": tokens / seconds if seconds > 0 else math.nan,
        "tokens_per_step": tokens / steps if steps else math.nan,
    }


def acceptance(tokens_per_step: float, guesses: int) -> float:
    """Share of the guessed tokens that were right: a step gives one token of its own and those.

    Where an engine sometimes guesses fewer than ``guesses``, as n-gram look-up does, it is the share of what a step
    could have had.
    """
    return (tokens_per_step - 1.0) / guesses if guesses else math.nan


# The prefix cache: prompts that begin the same and end otherwise, one at a time; the first one fills the cache.


def _prefixed(kit: Kit, number: int) -> Sequence[Burst]:
    whole = min(_LONG, kit.spec.max_input_len)
    (prefix,) = kit.prompts(1, kit.share(whole, 0.75), number)
    ends = kit.prompts(3, max(1, kit.share(whole, 0.05)), number)
    return [[Arrival(prefix + end, SamplingParams(1), 0.0)] for end in ends] + [
        [Arrival(end, SamplingParams(1), 0.0)] for end in ends[:1]
    ]


def _prefix(run: Sequence[Served]) -> dict[str, float]:
    seconds = [ttft(burst, lives((burst, events))[0], 0) for burst, events in run]
    return {"ttft": fmean(seconds[1:-1]), "ttft_first": seconds[0], "ttft_end_alone": seconds[-1]}


def saved_prefill(on: Mapping[str, float], off: Mapping[str, float]) -> float:
    """The share of the prefix's time that its cache saves: a hit rate by time, where an engine tells none.

    Without the cache a prompt takes as long as its prefix and its end; with every block found, as long as its end.
    """
    prefix = off["ttft"] - off["ttft_end_alone"]
    return (off["ttft"] - on["ttft"]) / prefix if prefix > 0 else math.nan


def _fresh(kit: Kit, number: int) -> Sequence[Burst]:
    prompts = kit.prompts(2, kit.share(min(_LONG, kit.spec.max_input_len), 0.75), number)
    return [[Arrival(prompt, SamplingParams(1), 0.0)] for prompt in prompts]


def _first_token(run: Sequence[Served]) -> dict[str, float]:
    return {"ttft": fmean(ttft(burst, lives((burst, events))[0], 0) for burst, events in run)}


# Scheduling: more requests than fit at once, one in four of them long, all there at the start.


def _mixed(kit: Kit, number: int) -> Sequence[Burst]:
    count, longest = 2 * kit.spec.max_batch_size, min(48, kit.spec.max_output_len)
    prompts = kit.prompts(count, kit.share(kit.spec.max_input_len, 0.05), number)
    lengths = [longest if index % 4 == 0 else max(1, longest // 6) for index in range(count)]
    return [
        [
            Arrival(prompt, SamplingParams(length), 1e-3 * index, priority=index % 2)
            for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        ]
    ]


def _scheduling(run: Sequence[Served]) -> dict[str, float]:
    (burst, events) = run[0]
    found = lives(run[0])
    latencies = [life.end - arrival.time for life, arrival in zip(found, burst, strict=True)]
    waits = [ttft(burst, life, index) for index, life in enumerate(found)]
    urgent = [seconds for seconds, arrival in zip(latencies, burst, strict=True) if not arrival.priority]
    others = [seconds for seconds, arrival in zip(latencies, burst, strict=True) if arrival.priority]
    return {
        "tokens_per_second": sum(len(event.token_ids) for event in events) / (events[-1].time - burst[0].time),
        "latency": fmean(latencies),
        "latency_urgent": fmean(urgent),
        "latency_others": fmean(others) if others else math.nan,
        "longest_wait": max(waits),
        "overtaken": float(overtaken(run[0])),
    }


# Chunked prefill: short requests are being answered, and long prompts arrive in the midst of it.


def short_requests(kit: Kit, number: int) -> list[Arrival]:
    """Those that are being answered; alone, they tell ``Kit.pace``."""
    count = max(1, kit.spec.max_batch_size - 1)
    prompts = kit.prompts(count, kit.share(kit.spec.max_input_len, 0.05), number)
    return [Arrival(prompt, SamplingParams(min(64, kit.spec.max_output_len)), 0.0) for prompt in prompts]


def _interfering(kit: Kit, number: int) -> Sequence[Burst]:
    long = kit.prompts(2, kit.spec.max_input_len, number)
    arriving = [
        Arrival(prompt, SamplingParams(1), part * kit.pace) for prompt, part in zip(long, (0.3, 0.6), strict=True)
    ]
    return [[*short_requests(kit, number), *arriving]]


def _interference(run: Sequence[Served]) -> dict[str, float]:
    (burst, _) = run[0]
    found = lives(run[0])
    gaps = [later - earlier for life in found[:-2] for earlier, later in zip(life.times, life.times[1:], strict=False)]
    ordered = sorted(gaps)
    return {
        "longest_itl": ordered[-1] if ordered else math.nan,
        "itl_p50": ordered[len(ordered) // 2] if ordered else math.nan,
        "ttft_long": fmean(ttft(burst, found[index], index) for index in (-2, -1)),
    }


TECHNIQUES: Mapping[str, Technique] = {
    "ngram": Technique(
        "n-gram speculation",
        {"speculation": "ngram"},
        {"speculation": "none"},
        _repeating,
        _speculation,
        "tokens_per_second",
        higher=True,
        says="3 prompts that repeat themselves, one at a time",
        same_tokens=True,
    ),
    "draft": Technique(
        "speculation by a draft model",
        {"speculation": "draft"},
        {"speculation": "none"},
        _plain,
        _speculation,
        "tokens_per_second",
        higher=True,
        says="3 prompts, one at a time",
        same_tokens=True,
    ),
    "prefix_cache": Technique(
        "prefix caching",
        {"prefix_caching": True},
        {"prefix_caching": False},
        _prefixed,
        _prefix,
        "ttft",
        higher=False,
        says="3 prompts that begin with the same three quarters, one at a time",
    ),
    "prefix_off": Technique(
        "a prompt that comes again",
        {},
        {},
        _fresh,
        _first_token,
        "ttft",
        higher=True,
        says="2 prompts, and the same again",
    ),
    "inflight": Technique(
        "in-flight batching",
        {"scheduler_policy": "inflight"},
        {"scheduler_policy": "static"},
        _mixed,
        _scheduling,
        "tokens_per_second",
        higher=True,
        says="two full batches at once, one request in four six times as long",
    ),
    "sjf": Technique(
        "shortest job first",
        {"queue_order": "sjf"},
        {"queue_order": "fcfs"},
        _mixed,
        _scheduling,
        "latency",
        higher=False,
        says="two full batches at once, one request in four six times as long",
    ),
    "priority": Technique(
        "priority",
        {"queue_order": "priority"},
        {"queue_order": "fcfs"},
        _mixed,
        _scheduling,
        "latency_urgent",
        higher=False,
        says="two full batches at once, every other request urgent",
    ),
    "chunked_prefill": Technique(
        "chunked prefill",
        {"chunked_prefill": True},
        {"chunked_prefill": False},
        _interfering,
        _interference,
        "longest_itl",
        higher=False,
        says="2 longest prompts that arrive while a batch of short ones is answered",
    ),
}


def changed(runtime: RuntimeSpec, change: Change) -> bool:
    """Whether a change is one."""
    return any(getattr(runtime, name) != value for name, value in change.items())
