"""The protocol between the suite and an engine. A backend is one module that implements it.

Prompts are token ids throughout: tokenization is the suite's, so that every engine of a model gets the same input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from enginegate.core.progress import Progress as Progress
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.models.checkpoint import Checkpoint

if TYPE_CHECKING:  # a Python that only builds engines may have no numpy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenEvent:
    """One generated token. ``time`` is seconds since the request was submitted."""

    token_id: int
    time: float


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        token_ids: the tokens produced, in order, without the prompt.
        token_times: seconds since submission of the whole batch, one per token, non-decreasing; several
            tokens may share a time when the engine delivers them together.
        finish_reason: "length", "stop" or "error".
    """

    token_ids: tuple[int, ...]
    token_times: tuple[float, ...]
    finish_reason: str


@dataclass(frozen=True)
class Distribution:
    """What an engine expected at each scored position of one sequence: some tokens by name, all others as one.

    All log-probabilities are natural.

    Attributes:
        scores: log-probability of the token that came, [positions].
        ids: token ids of the cells, [positions, cells], each at most once in a row; -1: this cell is not used.
        values: log-probability of each cell, [positions, cells].
        rest: log-probability that it is none of the cells, [positions]; -inf where nothing is left.
        likeliest: id of the most likely token, [positions].
    """

    scores: NDArray[np.float64]
    ids: NDArray[np.int32]
    values: NDArray[np.float64]
    rest: NDArray[np.float64]
    likeliest: NDArray[np.int32]


@dataclass(frozen=True)
class Arrival:
    """One request of a serving run, and when it arrives.

    Attributes:
        prompt: its token ids.
        params: how it is answered.
        time: seconds after the start of the run at which it is due.
        priority: a smaller number goes first, where the engine's scheduler knows priorities.
    """

    prompt: tuple[int, ...]
    params: SamplingParams
    time: float
    priority: int = 0


@dataclass(frozen=True)
class ServingEvent:
    """Something that happened to one request of a serving run.

    Attributes:
        request: its index in the arrivals.
        kind: "sent" as it was handed to the engine, "tokens" as the engine gave some, "finished" once, at its end.
        time: seconds after the start of the run, on the clock of the engine's process.
        token_ids: the tokens that came, in order; empty where ``kind`` is not "tokens".
        reason: of "finished": "length", "stop", "error" (the engine gave it up) or "cancelled".
        in_flight: how many requests the engine itself counts right after this, waiting or running; None where it does
            not say.
    """

    request: int
    kind: str
    time: float
    token_ids: tuple[int, ...] = ()
    reason: str = ""
    in_flight: int | None = None


#: How many of the likeliest tokens to name; or which to name, for each sequence [positions, cells].
Cells: TypeAlias = "int | Sequence[NDArray[np.int32]]"


@dataclass(frozen=True)
class MemoryUse:
    """What the engine itself can say about memory, in bytes; None where it cannot.

    Attributes:
        weights: bytes of the weights as stored in the running engine.
        kv_cache: bytes of the KV cache now allocated.
        kv_budget: bytes that the KV pool may grow to, as the running engine states it.
        kv_cache_predicted: bytes that layers x KV heads x head size x tokens x element size asks for.
    """

    weights: int | None = None
    kv_cache: int | None = None
    kv_budget: int | None = None
    kv_cache_predicted: int | None = None


@dataclass(frozen=True)
class Effective:
    """What the running engine says it really is. Compared with what was asked by ``check_effective``.

    Attributes:
        precision: the weight precision found in the running engine, in the suite's names.
        kv_precision: the KV cache's element type, in the suite's names.
        activation_precision: what it computes in.
        max_length: prompt plus output tokens that one sequence may have.
        threads: CPU threads, or None on a GPU.
        details: everything else worth recording, JSON-able.
        scheduler_policy, chunked_prefill, speculation, prefix_caching, queue_order: as in RuntimeSpec. None here and
            below: the engine does not say, an error where its runtime asks for something else than the default.
        tokens_per_block: tokens in one block of the paged KV cache.
        kv_blocks: how many blocks its KV pool has.
        kv_pool_bytes: bytes of all of them.
    """

    precision: str
    kv_precision: str
    activation_precision: str
    max_length: int
    threads: int | None
    details: Mapping[str, object] = field(default_factory=dict)
    scheduler_policy: str | None = None
    chunked_prefill: bool | None = None
    speculation: str | None = None
    tokens_per_block: int | None = None
    kv_blocks: int | None = None
    kv_pool_bytes: int | None = None
    prefix_caching: bool | None = None
    queue_order: str | None = None


@dataclass(frozen=True)
class Capability:
    """Whether a backend can do one thing here; ``reason`` says why not, and the hint."""

    supported: bool
    reason: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do on this machine, by the suite's names."""

    precisions: Mapping[str, Capability]
    kv_precisions: Mapping[str, Capability]
    device: str


class Engine(Protocol):
    """A loaded engine."""

    spec: EngineSpec
    runtime: RuntimeSpec

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Answer a batch of prompts together, greedily. Raises EngineError on a prompt that is empty or too long."""
        ...

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """Answer one prompt, yielding each token as it becomes available."""
        ...

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probability of each token given those before it.

        Args:
            sequences: token ids, each at least 2 long.
            prefill: how many leading tokens go through one forward pass; the rest are fed one at a time, as
                decoding does, so that the KV cache and its precision take part. None: all in one pass.

        Returns:
            For each sequence ``len(sequence) - 1`` values; the first token has none.
        """
        ...

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """As ``score``, with what else was expected at each position. A backend may lack this method.

        An engine that can name its own likeliest tokens alone does so also where it is told which to name; whoever
        compares two distributions counts the tokens that both name.
        """
        ...

    def memory(self) -> MemoryUse:
        """What the engine can say about its memory now."""
        ...

    def effective(self) -> Effective:
        """Ask the running engine what it really is."""
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        ...


@runtime_checkable
class ServingEngine(Protocol):
    """What an engine has beside ``Engine`` where it can serve requests that arrive over time."""

    def submit(self, arrivals: Sequence[Arrival]) -> Iterator[ServingEvent]:
        """Serve requests that arrive over time, each handed in at its own time inside the engine's process.

        Open loop: a request is handed in when it is due, however many are still at work. Events come in the order of
        their times; an iterator that is dropped half-way cancels what is left.

        Args:
            arrivals: in the order of their times, none negative.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """Builds and loads engines of one kind."""

    name: str
    #: Modules that ``load`` imports; on a CPU the memory pass imports them first, so that they do not count.
    libraries: Sequence[str]

    def version(self) -> str:
        """Versions of the libraries that decide what is built, as one string; part of the engine's key."""
        ...

    def capabilities(self) -> Capabilities:
        """What works on this machine. Must not import the backend's heavy library."""
        ...

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Write the engine's files into the existing empty folder ``out_dir``."""
        ...

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> Engine:
        """Load what ``build`` wrote."""
        ...
