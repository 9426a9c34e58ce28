"""Memory of one engine, in a fresh process of its own, apart from any timing; see ``engines.process.memory_pass``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enginegate.core.errors import EngineError, MeasurementError, edge
from enginegate.core.records import MemoryEntry
from enginegate.core.specs import DEFAULT_TIMEOUTS, EngineSpec, RuntimeSpec, Timeouts, Workload
from enginegate.engines.process.client import Worker
from enginegate.engines.process.interpreter import HERE, Interpreter
from enginegate.engines.registry import capabilities, load_backend
from enginegate.machine.card import measure_card


def measure_memory(
    engine_dir: Path,
    disk_bytes: int,
    spec: EngineSpec,
    runtime: RuntimeSpec,
    prompts: Sequence[Sequence[int]],
    workload: Workload,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    interpreter: Interpreter = HERE,
) -> MemoryEntry:
    """Load the engine in a child, answer ``prompts`` once, and report what it took.

    Raises MeasurementError, also where the child gave no sign of life for as long as ``timeouts`` says.
    """
    on_gpu = capabilities(load_backend(spec.backend)).device == "cuda"
    card = measure_card() if on_gpu else None
    prompts = [list(prompt) for prompt in prompts]
    subject = f"the memory pass of {spec.id}"
    context = card.context_bytes if card else None
    job = (spec.backend, engine_dir.absolute(), spec, runtime, prompts, workload.output_len, context)
    try:
        with edge(MeasurementError, f"{subject} failed", "run its tests alone, and look into the engine's own log"):
            worker = Worker(subject, interpreter, timeouts)
            try:
                found = worker.ask("memory", "memory_pass", *job)
            finally:
                worker.close()
    except EngineError as error:
        problem = error.problem if error.problem.startswith(subject) else f"{subject}: {error.problem}"
        raise MeasurementError(problem, error.hint) from (error.__cause__ or error)
    return MemoryEntry(
        engine=spec.id,
        workload=workload.id,
        disk=disk_bytes,
        device=card.name if card else "cpu",
        copy_bytes_per_second=card.copy_bytes_per_second if card else None,
        **found,
    )
