"""Techniques of serving measured on one model's engines: with and without, in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from enginegate.core.errors import CapabilityError, EngineError, EngineGateError
from enginegate.core.progress import Step
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.core.technique_records import AnswerEntry, TechniqueEntry
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Engine
from enginegate.engines.serving import serving
from enginegate.measure.techniques import (
    TECHNIQUES,
    Burst,
    Kit,
    Served,
    Technique,
    acceptance,
    changed,
    lives,
    saved_prefill,
    short_requests,
    tokens_of,
)
from enginegate.session.engines import RunningEngines


@dataclass(frozen=True)
class TechniqueBench:
    """Measures techniques on engines of one model.

    Attributes:
        engines: where they are built and loaded.
        pool: text that prompts are cut from.
        vocabulary: token ids lie below it.
        pairs: of runs with a technique and without it.
        seed: of the prompts.
    """

    engines: RunningEngines
    kit: Kit
    vocabulary: int
    pairs: int

    def measure(self, name: str, spec: EngineSpec, runtime: RuntimeSpec) -> TechniqueEntry:
        """Pairs of runs, in turn: with the technique first in every other one. The first pair of all is a warm-up.

        Raises:
            CapabilityError: the backend has no such technique, or cannot serve.
            EngineGateError: an engine could not be had, or broke off.
        """
        technique = TECHNIQUES[name]
        if spec.max_input_len < _LEAST or spec.max_output_len < _LEAST:
            raise CapabilityError(
                f"{spec.id} takes {spec.max_input_len} tokens and gives {spec.max_output_len}: too few to see what "
                f"{technique.title} does",
                f"raise limits.max_input_len and limits.max_output_len to {_LEAST} at least",
            )
        with ExitStack() as stack:
            on = stack.enter_context(self._engine(name, spec, runtime, technique.on))
            off = on
            if technique.on != technique.off:
                off = stack.enter_context(self._engine(f"no-{name}", spec, runtime, technique.off))
            _check_chunks(technique, spec, on)
            kit = replace(self.kit, pace=self._pace(off))
            runs: list[tuple[list[Served], list[Served]]] = []
            for number in range(self.pairs + 1):
                self.engines.files.progress(Step(f"{technique.title} of {spec.id}", f"pair {number} of {self.pairs}"))
                bursts = technique.load(kit, number)
                # A prompt that comes again can only come second: what is ``off`` is the first time.
                first, second = (on, off) if number % 2 and on is not off else (off, on)
                one, two = _serve(first, bursts), _serve(second, bursts)
                runs.append((one, two) if first is on and on is not off else (two, one))
            return self._entry(name, technique, spec, (on, off), runs[1:])

    def _entry(
        self,
        name: str,
        technique: Technique,
        spec: EngineSpec,
        engines: tuple[Engine, Engine],
        runs: Sequence[tuple[list[Served], list[Served]]],
    ) -> TechniqueEntry:
        on, off = engines
        answers: list[AnswerEntry] = []
        for with_it, without in runs if technique.same_tokens else ():
            answers += [
                self._compared(off, arrival.prompt, ours, theirs)
                for mine, plain in zip(with_it, without, strict=True)
                for arrival, ours, theirs in zip(mine[0], tokens_of(mine), tokens_of(plain), strict=True)
            ]
        figures = [(technique.figures(with_it), technique.figures(without)) for with_it, without in runs]
        told = on.effective()
        hits = told.details.get("prefix_cache")
        settings = {key: str(told.details[key]) for key in _TOLD if key in told.details}
        if isinstance(hits, dict) and hits.get("prompt_tokens") and name == "prefix_cache":
            settings["hit_rate"] = f"{100 * hits['found'] / hits['prompt_tokens']:.0f} %"
        guesses = _guessed(told.details.get("guesses"))
        ons = [dict(each) for each, _ in figures]
        for mine, theirs in zip(ons, (each for _, each in figures), strict=True):
            if name == "prefix_cache":
                mine["hit_rate_by_time"] = saved_prefill(mine, theirs)
            if guesses:
                mine["acceptance"] = acceptance(mine["tokens_per_step"], guesses)
        return TechniqueEntry(
            technique=name,
            engine=spec.id,
            load=technique.says,
            with_=_said(technique.on) or "the second time",
            without=_said(technique.off) or "the first time",
            on=ons,
            off=[dict(each) for _, each in figures],
            answers=answers,
            settings=settings,
        )

    def _compared(
        self, plain: Engine, prompt: tuple[int, ...], mine: tuple[int, ...], theirs: tuple[int, ...]
    ) -> AnswerEntry:
        """Two answers up to where they part, and how near to each other the plain engine finds the two tokens there."""
        same = next((at for at, (one, two) in enumerate(zip(mine, theirs, strict=False)) if one != two), None)
        if same is None:
            short = min(len(mine), len(theirs))
            return AnswerEntry(compared=short + (len(mine) != len(theirs)), differs=len(mine) != len(theirs))
        begin = (*prompt, *theirs[:same])
        try:
            scores = plain.score([(*begin, theirs[same]), (*begin, mine[same])], prefill=None)
            gap = scores[0][-1] - scores[1][-1]
        except EngineGateError:  # too long to be scored: nobody can say that it was rounding
            gap = math.nan
        return AnswerEntry(compared=same + 1, differs=True, gap=gap)

    @contextmanager
    def _engine(self, name: str, spec: EngineSpec, runtime: RuntimeSpec, change: object) -> Iterator[Engine]:
        """The engine with one thing otherwise; the engine under test itself where it is so already."""
        assert isinstance(change, dict)
        if not changed(runtime, change):
            yield CheckedEngine(self.engines.get(spec, runtime, "candidate"), self.vocabulary)
            return
        variant = f"{spec.variant}.{name}" if spec.variant else name
        with self.engines.borrowed(replace(spec, variant=variant), replace(runtime, **change)) as engine:
            yield CheckedEngine(engine, self.vocabulary)

    def _pace(self, engine: Engine) -> float:
        """Seconds that the short requests of a batch take alone, the second time."""
        burst = short_requests(self.kit, -1)
        for _ in range(2):
            (served,) = _serve(engine, [burst])
        return max(life.end for life in lives(served))


#: Tokens that prompts and answers must have room for.
_LEAST = 16
#: What an engine says of itself that a table of techniques shows.
_TOLD = ("guesses", "max_num_batched_tokens")


def _serve(engine: Engine, bursts: Sequence[Burst]) -> list[Served]:
    """Serve bursts one after the other. Raises EngineError where the engine gave a request up."""
    server = serving(engine)
    served: list[Served] = [(burst, list(server.submit(burst))) for burst in bursts]
    given_up = sum(event.reason in ("error", "cancelled") for _, events in served for event in events)
    if given_up:
        raise EngineError(
            f"{engine.spec.id} gave {given_up} of {sum(map(len, bursts))} requests up",
            "give the engine a larger kv_cache_bytes, and look into its log",
        )
    return served


def _check_chunks(technique: Technique, spec: EngineSpec, engine: Engine) -> None:
    """Raise CapabilityError where an engine that chunks has no prompt longer than a chunk."""
    if not technique.on.get("chunked_prefill"):
        return
    chunk = engine.effective().details.get("max_num_batched_tokens")
    if isinstance(chunk, int) and chunk >= spec.max_input_len:
        raise CapabilityError(
            f"{spec.id}: a step takes {chunk} tokens, and so the whole of its longest prompt of {spec.max_input_len}: "
            "nothing is chunked",
            f"raise limits.max_input_len above {chunk}",
        )


def _guessed(guesses: object) -> int:
    """How many tokens an engine says that it guesses at a time; 0 where it guesses none."""
    return int(guesses.get("num_assistant_tokens", 0)) if isinstance(guesses, dict) else 0


def _said(change: object) -> str:
    assert isinstance(change, dict)
    return ", ".join(f"{name} {value}" for name, value in change.items())
