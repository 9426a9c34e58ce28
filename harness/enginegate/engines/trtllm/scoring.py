"""Log-probabilities from logits, how many requests may hold logits at once, and the check that logits mean something.

Wrong log-probabilities have been returned by released versions (NVIDIA/TensorRT-LLM issues 2406 and 983), so presence
of a field is no proof; ``check_oracle`` compares the logits with the token that the same request decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import EngineError
from enginegate.engines.requests import length_batches

#: Float32 logits held at once while scoring: 256 Mi values, 1 GiB.
_LOGIT_BUDGET = 1 << 28
#: By how much a greedily chosen token's logit may stay below the highest one: sampler and logits may round apart.
_TIE = 0.05


def gather_log_softmax(logits: NDArray[np.float32], targets: Sequence[int]) -> list[float]:
    """Natural-log probability of each target. Shapes [tokens, vocabulary] and [tokens]."""
    rows = logits[: len(targets)]
    highest = rows.max(axis=1, keepdims=True)
    total = np.log(np.exp(rows - highest, dtype=np.float64).sum(axis=1))
    chosen = rows[np.arange(len(targets)), np.asarray(targets, np.int64)]
    return [float(value) for value in chosen - highest[:, 0] - total]


def waves(lengths: Sequence[int], vocabulary: int, largest: int) -> list[list[int]]:
    """Indices of requests whose logits may be held at once, longest first."""
    return length_batches(lengths, max(1, _LOGIT_BUDGET // vocabulary), max(1, largest))


def check_oracle(engine: str, logits: Any, decoded: Sequence[int]) -> None:
    """Raise EngineError unless the logits are finite, vary, and put the decoded token first.

    Args:
        engine: its name.
        logits: [tokens, vocabulary] of a prompt.
        decoded: what greedy decoding gave after that prompt; may be empty where it was a withheld end token.
    """
    if not np.isfinite(logits).all():
        raise EngineError(f"{engine}: context logits hold NaN or infinity", "do not trust this engine's scores")
    spread = float(logits.std(axis=1).min())
    if spread == 0.0:
        raise EngineError(f"{engine}: context logits are all the same", "do not trust this engine's scores")
    if decoded:
        lacks = float(logits[-1].max() - logits[-1][decoded[0]])
        if lacks > _TIE * max(1.0, spread):
            raise EngineError(
                f"{engine}: greedy decoding took token {decoded[0]}, whose context logit is {lacks:.3f} below the "
                "highest: logits and decoding do not belong together",
                "do not trust this engine's scores; report the version of TensorRT-LLM",
            )


def logit_matrix(logits: Any) -> NDArray[np.float32]:
    """Logits as a float32 array [tokens, vocabulary]; a leading batch or beam axis of one is dropped."""
    values = logits.detach().float().cpu().numpy() if hasattr(logits, "detach") else np.asarray(logits, np.float32)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2:
        raise EngineError(f"logits have the shape {values.shape}, not [tokens, vocabulary]", "report the version")
    return values
