"""What the TensorRT backends can be told besides what every other backend can, and what an engine fixes when built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from pydantic import Field

from enginegate.core.errors import CapabilityError
from enginegate.core.sections import Fraction
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.options import RuntimeOptions

#: What a speculating engine proposes for one step at most; upstream's own default for NGram at low concurrency is 5.
DRAFT_TOKENS = 5
#: Share of the GPU's free memory that the KV pool may take, where its size in tokens does not decide first.
_FREE_SHARE = 0.95


@dataclass(frozen=True)
class BuiltSpec(EngineSpec):
    """An EngineSpec with the loading options that TensorRT compiles into an engine; see RuntimeSpec for each."""

    kv_precision: str = "auto"
    tokens_per_block: int | None = None
    speculation: str = "none"
    activation_precision: str = "auto"


@dataclass(frozen=True)
class TensorRtRuntime(RuntimeSpec):
    """A RuntimeSpec with TensorRT-LLM's own two limits of the KV pool; the smallest limit given decides.

    Attributes:
        kv_cache_tokens: tokens that the pool holds at most; 0 for no such limit.
        kv_cache_fraction: share of the GPU's free memory that the pool may take; None for nearly all.
    """

    kv_cache_tokens: int = 0
    kv_cache_fraction: float | None = None


class TensorRtOptions(RuntimeOptions):
    """The keys of both TensorRT backends; see TensorRtRuntime."""

    kv_cache_tokens: Annotated[int, Field(ge=0, lt=2**31)] = 0
    kv_cache_fraction: Fraction | None = None


def runtime_spec(options: RuntimeOptions) -> TensorRtRuntime:
    """A configuration's ``runtime`` section as what the backends get."""
    return TensorRtRuntime(**options.model_dump())


def built_spec(spec: EngineSpec, runtime: RuntimeSpec) -> BuiltSpec:
    """The spec by which the engine backend builds what ``runtime`` asks for."""
    if isinstance(spec, BuiltSpec):
        return spec
    given = {field.name: getattr(spec, field.name) for field in fields(EngineSpec)}
    return BuiltSpec(
        **given,
        kv_precision=runtime.kv_precision,
        tokens_per_block=runtime.tokens_per_block,
        speculation=runtime.speculation,
        activation_precision=runtime.activation_precision,
    )


def pool_limits(runtime: RuntimeSpec) -> tuple[int, float]:
    """Tokens that the KV pool holds at most (0: not limited so), and the share of free GPU memory that it may take."""
    if not isinstance(runtime, TensorRtRuntime):
        return 0, _FREE_SHARE
    return runtime.kv_cache_tokens, runtime.kv_cache_fraction or _FREE_SHARE


def check_draft_model(spec: EngineSpec, draft_model: str) -> str:
    """The draft model's folder. Raises CapabilityError where none is named."""
    if not draft_model:
        raise CapabilityError(
            f"{spec.id}: speculation with a draft model needs the draft model's folder",
            "set the environment variable ENGINEGATE_DRAFT_MODEL to it, or use speculation: ngram",
        )
    return draft_model
