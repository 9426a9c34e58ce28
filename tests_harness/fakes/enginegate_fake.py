"""A backend that only pretends: known speeds, known quality, no model. It is found as any third party's would be.

Put this folder on ``PYTHONPATH``: the dist-info folder beside this file holds the entry point. Engines append what
happens to them (``build``, ``load``, ``close``, each with the engine's id) to the file ``$ENGINEGATE_FAKE_LOG``.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import (
    Arrival,
    Capabilities,
    Capability,
    Cells,
    Distribution,
    Effective,
    Generation,
    MemoryUse,
    Progress,
    ServingEvent,
    TokenEvent,
)
from enginegate.engines.options import RuntimeOptions
from enginegate.engines.pace import PacerProcess
from enginegate.engines.serving import check_arrivals, line_of, serve
from enginegate.models.checkpoint import Checkpoint
from fake_serving import GUESSES, FakeLoop, VirtualPace
from pydantic import Field

#: Seconds for each token, bits for each weight, and how far scores and answers stray from the reference's.
PRECISIONS = {
    "fp32": (0.0060, 32, 0.0),
    "bf16": (0.0040, 16, 0.0),
    "int8_wo": (0.0020, 8, 0.002),
    "int4_wo": (0.0015, 4, 0.4),
}
#: Weights on disk, and bytes that a loaded engine takes for each bit of a weight, so that its memory can be measured.
WEIGHTS, RESIDENT = 4096, 1 << 20
#: Bits of an element of the KV cache, the time of a token over that with 16, and how far scores stray more.
KV_CACHES = {"fp16": (16, 1.0, 0.0), "int8": (8, 1.0, 0.0005), "int4": (4, 1.0, 0.02)}
KV_TOKENS = 16
END_OF_ANSWER = 2
#: Ids that answers are made of: printable bytes of the test checkpoint's tokenizer.
LETTERS = tuple(range(60, 90))
NOISE = 0.01
#: Token ids that it takes; the test checkpoint's tokenizer has fewer.
VOCABULARY = 1 << 20


class RealClock:
    """The machine's own time."""

    now = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)


class VirtualClock:
    """Time that passes only where an engine works, so that no other load on the machine can be measured."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


#: Replaced by the plugin ``virtual_time``.
CLOCK: RealClock | VirtualClock = RealClock()


def log(event: str, spec: EngineSpec) -> None:
    path = os.environ.get("ENGINEGATE_FAKE_LOG")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{event} {spec.id}\n")


def share(*parts: object) -> float:
    """A number from 0 to 1 that depends on ``parts`` alone."""
    return zlib.crc32(repr(parts).encode()) / 2**32


class FakeOptions(RuntimeOptions):
    slower: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True)
class FakeRuntime(RuntimeSpec):
    """``slower``: factor on the time of every token."""

    slower: float = 1.0


class FakeEngine:
    def __init__(self, spec: EngineSpec, runtime: RuntimeSpec, built: dict[str, object]) -> None:
        self.spec = spec
        self.runtime = runtime
        self._precision = str(built["precision"])
        self._bytes = int(str(built["bytes"]))
        self._seconds, _, self._straying = PRECISIONS[self._precision]
        self._seconds *= getattr(runtime, "slower", 1.0)
        self._kv = "fp16" if runtime.kv_precision == "auto" else runtime.kv_precision
        self._straying += KV_CACHES[self._kv][2]
        self._random = random.Random(f"{spec.id}/{os.environ.get('ENGINEGATE_FAKE_SEED', '0')}")
        self._weights = b"w" * int(str(built["resident"]))
        self._closed = False
        #: Set by engines that misbehave; see fake_serving.
        self.habits: set[str] = set()
        self.prefixes: list[tuple[int, ...]] = []
        log("load", spec)

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        step = self.step_seconds(len(prompts))
        start = CLOCK.now()
        times = []
        for index in range(params.max_tokens):
            CLOCK.sleep(2 * step if index == 0 else step)
            times.append(CLOCK.now() - start)
        generations = []
        for prompt in prompts:
            tokens = self.answer(prompt, params)
            reason = "length" if len(tokens) == params.max_tokens else "stop"
            generations.append(Generation(tokens, tuple(times[: len(tokens)]), reason))
        return generations

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        (generation,) = self.generate([prompt], params)
        for token, at in zip(generation.token_ids, generation.token_times, strict=True):
            yield TokenEvent(token, at)

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        check_arrivals(self.spec, arrivals, VOCABULARY)
        clock = CLOCK
        pacing = PacerProcess if isinstance(clock, RealClock) else lambda times: VirtualPace(clock, times)
        return serve(FakeLoop(self, clock), arrivals, line_of(self.spec, self.runtime), pacing)

    def step_seconds(self, requests: int) -> float:
        """What a token of so many requests at a time takes."""
        return self._seconds * (1 + 0.1 * requests) * self._random.gauss(1, NOISE)

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        del prefill
        return [tuple(self._likelihood(s[i - 1], s[i], i) for i in range(1, len(s))) for s in sequences]

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """The token that came, some others, and nine tenths of what is left named; in the order of ``cells``."""
        scores = self.score(sequences, prefill=prefill)
        found = []
        for number, (sequence, values) in enumerate(zip(sequences, scores, strict=True)):
            named = [self._expected(sequence[i - 1], sequence[i], i, values[i - 1]) for i in range(1, len(sequence))]
            asked = None if isinstance(cells, int) else cells[number].tolist()
            ids = [list(each)[: min(cells, 7)] for each in named] if asked is None else asked
            rows = [[each.get(token, 1e-9) for token in row] for each, row in zip(named, ids, strict=True)]
            found.append(
                Distribution(
                    scores=np.array(values),
                    ids=np.array(ids, np.int32),
                    values=np.log(rows),
                    rest=np.log(1.0 - np.sum(rows, 1)),
                    likeliest=np.array([max(each, key=lambda token: each[token]) for each in named], np.int32),
                )
            )
        return found

    def _expected(self, before: int, came: int, index: int, score: float) -> dict[int, float]:
        """Probabilities by token: that of the one that came is its score's."""
        weights = {
            token: math.exp(
                -2 * share(before, token, index) - 4 * self._straying * share(before, token, index, self._precision)
            )
            for token in range(8)
            if token != came
        }
        scale = 0.9 * (1.0 - math.exp(score)) / sum(weights.values())
        return {came: math.exp(score), **{token: scale * weight for token, weight in weights.items()}}

    def memory(self) -> MemoryUse:
        predicted = (1 << 20) * KV_CACHES[self._kv][0] // 16
        budget = self.runtime.kv_cache_bytes or predicted
        budget *= int(os.environ.get("ENGINEGATE_FAKE_KV_FACTOR", "1"))  # of an engine that takes more than it was told
        return MemoryUse(weights=self._bytes, kv_cache=predicted, kv_budget=budget, kv_cache_predicted=predicted)

    def effective(self) -> Effective:
        length = self.spec.max_input_len + self.spec.max_output_len
        budget = self.memory().kv_budget
        runtime = self.runtime
        return Effective(
            self._precision,
            self._kv,
            "fp32",
            length,
            threads=1,
            tokens_per_block=KV_TOKENS,
            kv_blocks=1,
            kv_pool_bytes=budget,
            scheduler_policy=runtime.scheduler_policy,
            chunked_prefill=runtime.chunked_prefill,
            speculation=runtime.speculation,
            prefix_caching=runtime.prefix_caching,
            queue_order=runtime.queue_order,
            details={"guesses": {"num_assistant_tokens": GUESSES}} if runtime.speculation != "none" else {},
        )

    def close(self) -> None:
        if not self._closed:
            log("close", self.spec)
        self._closed = True

    def answer(self, prompt: Sequence[int], params: SamplingParams) -> tuple[int, ...]:
        seed = zlib.crc32(bytes(token % 251 for token in prompt))
        length = params.max_tokens if params.ignore_eos else min(params.max_tokens, 10 + seed % 8)
        tokens = [self._token(seed, index) for index in range(length)]
        if not params.ignore_eos and length < params.max_tokens:
            tokens.append(END_OF_ANSWER)
        return tuple(tokens)

    def _token(self, seed: int, index: int) -> int:
        strays = share("stray", seed, index) < self._straying
        return LETTERS[int(share(seed, index, self._precision if strays else "") * len(LETTERS))]

    def _likelihood(self, before: int, token: int, index: int) -> float:
        """Low ids are likely, high ones are not; a straying engine adds noise of its own."""
        return -0.2 - 0.02 * token - 4 * self._straying * share(before, token, index, self._precision)


class FakeBackend:
    name = "fake"
    libraries: Sequence[str] = ()
    options = FakeOptions

    def runtime_spec(self, options: FakeOptions) -> FakeRuntime:
        return FakeRuntime(**options.model_dump())

    def version(self) -> str:
        return "enginegate-fake 1.0"

    def capabilities(self) -> Capabilities:
        precisions = {name: Capability(True) for name in PRECISIONS}
        precisions["fp8"] = Capability(False, "nobody pretends fp8")
        caches = dict.fromkeys(KV_CACHES, Capability(True))
        return Capabilities(precisions, caches, os.environ.get("ENGINEGATE_FAKE_DEVICE", "cpu"))

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        del progress
        log("build", spec)
        _, bits, _ = PRECISIONS[spec.precision]
        size = WEIGHTS * bits // 8
        about = {
            "precision": spec.precision,
            "bytes": size,
            "resident": RESIDENT * bits,
            "checkpoint": checkpoint.digest,
            "spec": asdict(spec),
        }
        (out_dir / "engine.json").write_text(json.dumps(about), encoding="utf-8")
        (out_dir / "weights.bin").write_bytes(bytes(size))

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> FakeEngine:
        return FakeEngine(spec, runtime, json.loads((engine_dir / "engine.json").read_text(encoding="utf-8")))
