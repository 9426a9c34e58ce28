"""What fits is proved by doing it: the largest batch is loaded and answers within the memory, the next one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from enginegate.core.cache import cache_folder
from enginegate.core.errors import ConfigError, EngineError, MeasurementError
from enginegate.core.progress import Progress, Step
from enginegate.core.specs import Workload
from enginegate.engines.memory_law import pool_bytes
from enginegate.engines.registry import capabilities, check_precision
from enginegate.measure.memory import measure_memory
from enginegate.measure.memory_plan import predict
from enginegate.models.vocabulary import vocabulary_size
from enginegate.session.files import ModelFiles
from enginegate.session.memory_files import Subject

#: Engines that a proof loads at most.
_MOST_LOADS = 8


@dataclass(frozen=True)
class Load:
    """One engine that was loaded and asked for one batch: what it took, or why it could not."""

    batch_size: int
    predicted: int | None
    took: int | None
    problem: str = ""


@dataclass(frozen=True)
class Proof:
    """What loading showed.

    Attributes:
        tokens, memory: of each sequence, and the bytes that all must fit into.
        loads: every engine that was loaded, in order.
        largest: sequences that fit, where the next larger batch was shown not to; None where that was not reached.
    """

    tokens: int
    memory: int
    loads: tuple[Load, ...]
    largest: int | None


def prove(subject: Subject, tokens: int, memory: int, first: int, progress: Progress) -> Proof:
    """Load the engine for batches around ``first`` until one fits and the next larger one does not.

    Args:
        subject: the engine; it must come from a configuration.
        tokens: of each sequence, prompt and answer.
        memory: bytes that it may take: of the process on a CPU, of all cards on a GPU.
        first: the batch that the law says.
        progress: told what is loaded.

    Raises:
        ConfigError: there is nothing to load, or the machine has not as much memory.
        CapabilityError: the engine does not run here.
    """
    if subject.config is None:
        raise ConfigError("a config.json alone has no weights to load", "name a configuration, by --config or --model")
    check_precision(subject.backend, subject.spec.precision, subject.runtime.kv_precision)
    on_gpu = capabilities(subject.backend).device == "cuda"
    free = psutil.virtual_memory().available
    if not on_gpu and memory > free:
        raise ConfigError(
            f"{memory:,} bytes cannot be tried: this machine has {free:,} left", "give --fits less than that"
        )
    if tokens < 2:
        raise ConfigError("a sequence of 1 token has no prompt", "give --sequence-lengths from 2 on")
    timeouts = subject.config.timeouts()
    files = ModelFiles(subject.config, cache_folder(), progress, [subject.spec.backend])
    try:
        built = files.build(subject.spec)
        vocabulary = vocabulary_size(files.checkpoint.path)

        def load(batch_size: int) -> Load:
            progress(Step(f"loading {subject.spec.id} for {batch_size} sequences of {tokens} tokens"))
            spec, law = subject.sized(batch_size, tokens), subject.law(batch_size, tokens)
            pool = pool_bytes(law.kv, spec, replace(subject.runtime, kv_cache_bytes=0))
            parts = predict(law, subject.model.size, batch_size, tokens - 1, 1, pool)
            prompts = [
                [(7 * row + token) % max(1, vocabulary - 8) + 4 for token in range(tokens - 1)]
                for row in range(batch_size)
            ]
            runtime = replace(subject.runtime, kv_cache_bytes=0)
            work = Workload(batch_size, tokens - 1, 1)
            try:
                entry = measure_memory(built.path, built.manifest.size_bytes, spec, runtime, prompts, work, timeouts)
            except (EngineError, MeasurementError) as error:
                return Load(batch_size, parts.total, None, error.problem.splitlines()[0])
            return Load(batch_size, parts.total, max(entry.peak, entry.loaded) + (entry.contexts or 0))

        return _search(load, tokens, memory, max(1, first))
    finally:
        files.close()


def _search(load: Callable[[int], Load], tokens: int, memory: int, first: int) -> Proof:
    """Load ever nearer batches. Each is judged by what it took alone; the law only says where to look next."""
    tried: dict[int, Load] = {}
    batch: int | None = first
    while batch is not None and batch not in tried and len(tried) < _MOST_LOADS:
        tried[batch] = load(batch)
        batch = _next(tried, memory)
    fitting = {size for size, each in tried.items() if each.took is not None and each.took <= memory}
    best = max(fitting, default=0)
    shown = best + 1 in tried and best + 1 not in fitting
    return Proof(tokens, memory, tuple(tried.values()), best if shown else None)


def _next(tried: dict[int, Load], memory: int) -> int | None:
    """The batch to load next; None where the answer is known."""
    took = {size: each.took for size, each in tried.items() if each.took is not None}
    low = max((size for size, each in took.items() if each <= memory), default=0)
    high = min((size for size in tried if size > low), default=None)
    if high == low + 1:
        return None
    points = sorted(took)
    if len(points) >= 2 and took[points[-1]] > took[points[0]]:
        slope = (took[points[-1]] - took[points[0]]) / (points[-1] - points[0])
        guess = int(points[-1] + (memory - took[points[-1]]) / slope)
    elif high is None:
        guess = low + 1
    else:
        guess = (low + high) // 2
    # beside the guess first, then the guess itself: a proof needs both sides
    guess = guess + 1 if guess in tried else guess
    return max(low + 1, min(guess, (high or guess + 2) - 1))
