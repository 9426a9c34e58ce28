"""Compares what an engine says it is with what was asked."""

from __future__ import annotations

from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Effective


def check_effective(asked: EngineSpec, runtime: RuntimeSpec, found: Effective) -> None:
    """Raise EngineError where the running engine is not what was asked for.

    Weight precision and length are always compared; KV precision, activation precision and threads where the runtime
    names them (``auto`` and 0 leave them to the backend, and the engine reports what it chose); the number of devices
    where the engine tells it (``details["tensor_parallel"]``). Chunked prefill, speculation and prefix caching are
    compared wherever the engine tells them; scheduler policy, queue order, tokens a block and the KV pool's size where
    the runtime asks for another than the default. What was asked for and is not told counts as not granted.
    """
    length = asked.max_input_len + asked.max_output_len
    mismatches = []
    if found.precision != asked.precision:
        mismatches.append(f"weights are {found.precision}, asked was {asked.precision}")
    if runtime.kv_precision not in ("auto", found.kv_precision):
        mismatches.append(f"the KV cache is {found.kv_precision}, asked was {runtime.kv_precision}")
    if runtime.activation_precision not in ("auto", found.activation_precision):
        mismatches.append(f"computes in {found.activation_precision}, asked was {runtime.activation_precision}")
    if found.max_length < length:
        mismatches.append(f"a sequence may have {found.max_length} tokens, asked was {length}")
    if runtime.threads and found.threads is not None and found.threads != runtime.threads:
        mismatches.append(f"runs {found.threads} threads, asked were {runtime.threads}")
    if found.details.get("tensor_parallel", asked.tensor_parallel) != asked.tensor_parallel:
        mismatches.append(f"spans {found.details['tensor_parallel']} devices, asked were {asked.tensor_parallel}")
    mismatches += _scheduling_mismatches(runtime, found)
    if runtime.kv_cache_bytes:
        mismatches += _pool_mismatches(runtime, found)
    if mismatches:
        raise EngineError(
            f"{asked.id} is not the engine that was asked for: {'; '.join(mismatches)}",
            "rebuild it (enginegate engines build), or ask for what it can be in the config",
        )


#: Compared wherever the engine tells them; and where the runtime asks for another than the default.
_STATED = ("chunked_prefill", "speculation", "prefix_caching")
_OPEN = ("scheduler_policy", "queue_order", "tokens_per_block")


def _scheduling_mismatches(runtime: RuntimeSpec, found: Effective) -> list[str]:
    default = RuntimeSpec()
    mismatches = []
    for name in (*_STATED, *_OPEN):
        asked, told = getattr(runtime, name), getattr(found, name)
        open_to_backend = told is None or name in _OPEN
        if asked != told and not (asked == getattr(default, name) and open_to_backend):
            mismatches.append(
                f"{name} is {told}, asked was {asked}"
                if told is not None
                else f"it does not say its {name}, asked was {asked}"
            )
    return mismatches


def _pool_mismatches(runtime: RuntimeSpec, found: Effective) -> list[str]:
    """The pool has the whole blocks that the bytes asked for hold; fewer where a backend's own limits ask for less."""
    asked, pool = runtime.kv_cache_bytes, found.kv_pool_bytes
    if pool is None or not found.kv_blocks:
        return [f"it does not say how large its KV pool is, asked were {asked} bytes"]
    smaller = any(getattr(runtime, name, None) for name in ("kv_cache_tokens", "kv_cache_fraction"))
    if pool > asked or (pool + pool // found.kv_blocks <= asked and not smaller):
        return [f"the KV pool has {pool} bytes, asked were {asked}"]
    return []
