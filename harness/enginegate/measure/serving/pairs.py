"""Serving runs on real engines: one alone, or the same traces on an engine and its live base in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from enginegate.core.errors import EngineGateError
from enginegate.core.progress import Progress, Step
from enginegate.core.serving_records import ServingRun
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival, Engine
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.serving import checked_events, serving
from enginegate.machine.load import foreign_load, read_cpu_clock
from enginegate.measure.launches import Side
from enginegate.measure.prompts import PromptPool
from enginegate.measure.serving.schedule import Trace
from enginegate.measure.serving.timeline import run_of

#: Tokens of the answer that warms an engine up before its first request is due.
_WARM_UP = 4


@dataclass(frozen=True)
class ServingPolicy:
    """How runs are taken. ``warmup``, ``cooldown``: shares of the requests at either end that are not measured.

    ``vocabulary``: token ids of answers lie below it; None where nobody knows.
    """

    warmup: float = 0.1
    cooldown: float = 0.1
    vocabulary: int | None = None


def arrivals_of(trace: Trace, pool: PromptPool, seed: int) -> list[Arrival]:
    """The requests of a trace, each with a prompt of its own, so that no prefix cache can flatter an engine."""
    rows = zip(trace.times, trace.input_lens, trace.output_lens, trace.priorities, strict=True)
    return [
        Arrival(tuple(pool.batch(1, size, seed=seed, round_index=number)[0]), SamplingParams(tokens), time, priority)
        for number, (time, size, tokens, priority) in enumerate(rows)
    ]


def serve_run(engine: Engine, trace: Trace, pool: PromptPool, seed: int, policy: ServingPolicy) -> ServingRun:
    """One engine through one trace.

    Raises:
        CapabilityError: its backend cannot serve.
        EngineError: it failed, or gave events that cannot be.
    """
    server, subject = serving(engine), engine.spec.id
    arrivals = arrivals_of(trace, pool, seed)
    engine.generate([list(arrivals[0].prompt)], SamplingParams(min(_WARM_UP, arrivals[0].params.max_tokens)))
    before = read_cpu_clock(children=_children(engine))
    events = list(checked_events(subject, server.submit(arrivals), arrivals, policy.vocabulary))
    load = foreign_load(before, read_cpu_clock(children=_children(engine)))
    return run_of(
        trace,
        events,
        subject=subject,
        seed=seed,
        warmup=policy.warmup,
        cooldown=policy.cooldown,
        foreign_load=load,
    )


def _children(engine: Engine) -> list[int]:
    """Processes whose time is the engine's own."""
    return [engine.pid] if isinstance(engine, ChildEngine) else []


@dataclass
class PairedRuns:
    """The same traces on an engine and its live base.

    Attributes:
        head, base: the runs of either side; run k of both is of one trace.
        failure: what ended it before its time, if anything did.
    """

    head: list[ServingRun] = field(default_factory=list)
    base: list[ServingRun] = field(default_factory=list)
    failure: EngineGateError | None = None


def serve_pairs(
    head: Side,
    base: Side,
    traces: Sequence[tuple[Trace, int]],
    pool: PromptPool,
    policy: ServingPolicy,
    look: Callable[[str, ChildEngine], None],
    progress: Progress,
) -> PairedRuns:
    """Launch both anew for each trace, and have them serve it in turn, each first equally often.

    Both run in processes of their own, on equal terms, and only one has anything to do at a time.

    Args:
        head, base: the two sides.
        traces: each with its seed.
        pool: of the prompts.
        policy: how runs are taken.
        look: called with each side's name and engine in the first launch; what it raises ends the runs.
        progress: told as each pair starts.
    """
    found = PairedRuns()
    for number, (trace, seed) in enumerate(traces):
        progress(Step(f"serving {head.name} and its base", f"pair {number + 1} of {len(traces)}"))
        order = (base, head) if number % 2 == 0 else (head, base)
        runs: dict[str, ServingRun] = {}
        try:
            with ExitStack() as stack:
                engines = {}
                for side in order:
                    engines[side.name] = side.start()
                    stack.callback(engines[side.name].close)
                for engine in engines.values():
                    engine.ready()
                if number == 0:
                    for side in (head, base):
                        look(side.name, engines[side.name])
                for side in order:
                    runs[side.name] = serve_run(engines[side.name], trace, pool, seed, policy)
        except EngineGateError as error:
            found.failure = error
            break
        found.head.append(runs[head.name])
        found.base.append(runs[base.name])
    return found
