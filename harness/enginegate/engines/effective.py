"""Compares what an engine says it is with what was asked."""

from __future__ import annotations

from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Effective


def check_effective(asked: EngineSpec, runtime: RuntimeSpec, found: Effective) -> None:
    """Raise EngineError where the running engine is not what was asked for.

    Weight precision and length are always compared; KV precision, activation precision and threads where the runtime
    names them (``auto`` and 0 leave them to the backend, and the engine reports what it chose); the number of devices
    where the engine tells it (``details["tensor_parallel"]``).
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
    if mismatches:
        raise EngineError(
            f"{asked.id} is not the engine that was asked for: {'; '.join(mismatches)}",
            "rebuild it (enginegate engines build), or ask for what it can be in the config",
        )
