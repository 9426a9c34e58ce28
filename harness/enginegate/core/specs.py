"""What an engine is asked to be, and the work it is given: frozen values, no behaviour.

Times are seconds (float, monotonic clock), sizes are bytes (int), log-probabilities are natural logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Every precision name the suite knows; a backend says in its capabilities which of them it can build.
PRECISIONS = (
    "fp32",
    "fp16",
    "bf16",
    "fp8",
    "int8_wo",
    "int4_wo",
    "int4_awq",
    "int4_gptq",
    "w4a8_awq",
    "w8a8_sq",
    "nvfp4",
)

#: KV-cache element types; "auto" lets the backend choose, and the engine reports what it chose.
KV_PRECISIONS = ("auto", "fp32", "fp16", "bf16", "fp8", "int8", "int4")


#: What stands between an engine's name and its variant: ``smollm2-135m-openvino-int8_wo@base``.
VARIANT_MARK = "@"


def engine_id(model: str, backend: str, precision: str, variant: str = "") -> str:
    """The short name of an engine, for people: ``model-backend-precision``, then ``@variant`` where it has one."""
    return f"{model}-{backend}-{precision}" + (f"{VARIANT_MARK}{variant}" if variant else "")


@dataclass(frozen=True)
class QuantizationSpec:
    """How weights are quantized at build time.

    Attributes:
        group_size: weights that share one scale; None lets the backend take one per channel.
        calibration: path of the calibration passages (JSON lines with a ``text`` field).
        calibration_samples: how many of them are used.
        calibration_digest: SHA-256 of the passages used, so that the engine's key follows their content.
    """

    group_size: int | None = 64
    calibration: str = ""
    calibration_samples: int = 32
    calibration_digest: str = ""


@dataclass(frozen=True)
class EngineSpec:
    """The build-relevant description of one engine: two equal specs build the same engine.

    ``variant`` tells engines apart that share model, backend and precision; it names an engine and builds nothing.
    """

    model: str
    backend: str
    precision: str
    quantization: QuantizationSpec = field(default_factory=QuantizationSpec)
    max_batch_size: int = 8
    max_input_len: int = 1024
    max_output_len: int = 512
    tensor_parallel: int = 1
    variant: str = ""

    @property
    def id(self) -> str:
        """The engine's name in test ids and tables, e.g. ``smollm2-135m-openvino-int8_wo`` or ``…-int8_wo@base``."""
        return engine_id(self.model, self.backend, self.precision, self.variant)

    @property
    def label(self) -> str:
        """The id without the model, for tables and sentences about one model."""
        return self.id.removeprefix(f"{self.model}-")


@dataclass(frozen=True)
class RuntimeSpec:
    """How a built engine is loaded and scheduled. Nothing in here changes the built files.

    Attributes:
        kv_precision: one of KV_PRECISIONS.
        kv_cache_bytes: size of the KV pool in bytes; 0 sizes it for max_batch_size full-length sequences.
        tokens_per_block: tokens in one block of the paged KV cache; None for the backend's own.
        activation_precision: "auto" takes bf16 where the device computes in it, else fp32.
        threads: CPU threads of the engine; 0 for all usable cores.
        scheduler_policy: "inflight" (continuous batching) or "static".
        chunked_prefill: split long prompts over scheduling steps.
        speculation: "none", "ngram", "draft" or "lookahead".
        prefix_caching: keep the KV blocks of prompts for later ones that begin the same. Off wherever time is measured.
        queue_order: whose turn is next among requests that wait: "fcfs" (first come, first served), "sjf" (shortest job
            first) or "priority".
    """

    kv_precision: str = "auto"
    kv_cache_bytes: int = 0
    tokens_per_block: int | None = None
    activation_precision: str = "auto"
    threads: int = 0
    scheduler_policy: str = "inflight"
    chunked_prefill: bool = False
    speculation: str = "none"
    prefix_caching: bool = False
    queue_order: str = "fcfs"


@dataclass(frozen=True)
class SamplingParams:
    """Greedy decoding of up to ``max_tokens`` tokens.

    Attributes:
        max_tokens: tokens to produce at most.
        ignore_eos: produce exactly ``max_tokens``; used wherever time is measured.
    """

    max_tokens: int
    ignore_eos: bool = True


@dataclass(frozen=True)
class Workload:
    """One timed unit of work: a batch of prompts of equal token length, and a fixed output length."""

    batch_size: int
    input_len: int
    output_len: int
    seed: int = 0

    @property
    def id(self) -> str:
        """The workload's name in ids and baselines, e.g. ``b8-i64-o64``."""
        return f"b{self.batch_size}-i{self.input_len}-o{self.output_len}"


@dataclass(frozen=True)
class Limit:
    """How long one wait for another process may last without a sign of life from it.

    Attributes:
        seconds: of silence. Progress starts them anew, so that work that is only long is not cut off.
        key: the configuration's key that sets it, for the hint; empty where none does.
    """

    seconds: float
    key: str = ""

    @property
    def hint(self) -> str:
        """What to do where the wait was too short."""
        return f"raise {self.key} (now {self.seconds:g} s) in the configuration where it only needs longer"


@dataclass(frozen=True)
class Timeouts:
    """Seconds of silence after which a process that works for the suite is ended, by the phase it is in.

    Attributes:
        build: a child that builds, quantizes or compiles; what it prints is progress.
        load: a child that loads an engine.
        round: an answer, and whatever else is asked of a loaded engine; each token may be progress.
        score: log-probabilities; each batch of sequences may be progress.
        memory: the memory pass, which loads an engine and answers once; what it prints is progress.
    """

    build: float = 7200.0
    load: float = 1800.0
    round: float = 600.0
    score: float = 3600.0
    memory: float = 1800.0

    def limit(self, phase: str) -> Limit:
        """The limit of one phase, named as the attribute."""
        return Limit(getattr(self, phase), f"timeouts.{phase}")


#: Of whoever has no configuration.
DEFAULT_TIMEOUTS = Timeouts()
