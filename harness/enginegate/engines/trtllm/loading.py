"""What both backends need to load an engine: the KV pool's size, its end tokens, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enginegate.core.errors import EngineError, edge
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.trtllm.options import pool_limits

#: Blocks that each sequence of the largest batch gets besides: speculation and the sampler write ahead into them.
SPARE_BLOCKS = 1


def kv_tokens(spec: EngineSpec, runtime: RuntimeSpec, per_token: int, block: int) -> int:
    """Tokens of the KV pool, in whole blocks: what was asked in bytes or tokens (the smaller), else the largest batch.

    A number of tokens, not a share of the GPU's free memory, which depends on who else uses it.
    Raises EngineError where not one sequence fits.
    """
    length = spec.max_input_len + spec.max_output_len
    blocks = -(-length // block) + SPARE_BLOCKS
    tokens, _ = pool_limits(runtime)
    asked = [limit for limit in (runtime.kv_cache_bytes // per_token, tokens) if limit]
    if not asked:
        return spec.max_batch_size * blocks * block
    held = min(asked) // block
    if held < blocks:
        raise EngineError(
            f"{spec.id}: a KV pool of {min(asked)} tokens holds {held} blocks, one sequence needs {blocks}",
            f"give at least {blocks * per_token * block} bytes, or lower max_input_len or max_output_len",
        )
    return held * block


def loading(spec: EngineSpec, make: Callable[[], Any]) -> Any:
    """Call a constructor of TensorRT-LLM; whatever it raises becomes an EngineError that says what to look at."""
    hint = "see its log above, and docs/tensorrt-llm.md, troubleshooting"
    with edge(EngineError, f"{spec.id}: TensorRT-LLM could not load it", hint):
        return make()
