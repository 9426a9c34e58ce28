"""KL divergence from the reference to an engine, position by position: what quantization did to the distributions.

Perplexity looks at the one token that came; this looks at all that could have. The sums are over cells: the tokens that
the reference finds likeliest, and one cell for all others, so that it is a lower bound of the divergence over the whole
vocabulary (the data processing inequality; Cover and Thomas, "Elements of Information Theory", section 2.8). Names and
formulas are those of llama.cpp's perplexity tool: KLD is the sum of p * (ln p - ln q) in nats, p of the reference,
"same top p" the share of positions with the same likeliest token, and delta p the probability of the token that came,
less the reference's. That tool takes positions as independent; here a document is one sample, as its positions are not.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import MeasurementError, edge
from enginegate.core.records import QualityEntry, Stored
from enginegate.engines.base import Distribution, Engine
from enginegate.gates.items import ratio_of_sums
from enginegate.quality.entry import quality_entry
from enginegate.quality.perplexity import Prose, perplexity_of
from enginegate.quality.text import Tokenizer, distribute_sequences

REVISION = 1
COLUMNS = ("kld", "tokens", "same_top", "delta_p", "delta_p_squared", "named")
#: Quantiles that llama.cpp prints, in percent.
QUANTILES = (99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1)
#: Log-probabilities below it count as it: less than float32 holds. Without it a token that one engine excludes
#: altogether would make one position's divergence infinite, and say nothing of the others.
_LEAST = -87.0


class Distributions(Stored):
    """What the reference expected, by item hash; arrays as in ``Distribution``, in one compressed file of numpy's.

    Attributes:
        engine: the reference's id.
        cells: how many tokens it names at each position.
        arrays: the file, in base 64.
    """

    engine: str
    cells: int
    arrays: str

    @classmethod
    def of(cls, engine: str, cells: int, items: Mapping[str, Distribution]) -> Distributions:
        """As they are kept: float32, which is what the logits were."""
        file = io.BytesIO()
        arrays = {f"{key}/{name}": _kept(array) for key, item in items.items() for name, array in vars(item).items()}
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return cls(engine=engine, cells=cells, arrays=base64.b64encode(file.getvalue()).decode())

    def items(self) -> dict[str, Distribution]:
        """The distributions by item hash. Raises MeasurementError where the file is damaged."""
        fields: dict[str, dict[str, NDArray[np.generic]]] = {}
        problem = f"the kept distributions of {self.engine} cannot be read"
        with edge(MeasurementError, problem, "remove the folder `quality` of the cache"):
            with np.load(io.BytesIO(base64.b64decode(self.arrays)), allow_pickle=False) as file:
                for name in file.files:
                    key, _, field = name.partition("/")
                    array = file[name]
                    fields.setdefault(key, {})[field] = array.astype(np.float64) if array.dtype.kind == "f" else array
            return {key: Distribution(**found) for key, found in fields.items()}  # type: ignore[arg-type]


def _kept(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def reference_distributions(engine: Engine, tokenizer: Tokenizer, prose: Prose, cells: int) -> dict[str, Distribution]:
    """What the reference expects: its ``cells`` likeliest tokens at each position; for the caller to keep."""
    return distribute_sequences(engine, tokenizer, prose.sequences, cells, prose.prefill)


def evaluate_divergence(
    engine: Engine,
    tokenizer: Tokenizer,
    prose: Prose,
    reference: Mapping[str, Distribution],
    *,
    reference_id: str,
    cells: int,
    floor: float | None = None,
) -> dict[str, QualityEntry]:
    """Divergence from the reference, and perplexity, which the same pass gives.

    Args:
        engine: the engine asked.
        tokenizer: the model's.
        prose: what is scored.
        reference: the reference's distributions of the same sequences, by hash.
        reference_id: the reference's engine id.
        cells: how many tokens it names.
        floor: mean divergence of a second unquantized engine, in nats a token; None where it was not measured.

    Returns:
        ``divergence`` and ``perplexity``. Divergence has for each item sums over its positions: ``kld`` (nats),
        ``tokens`` (positions), ``same_top``, ``delta_p`` and its squares, and ``named`` (the reference's probability of
        the tokens that both name). Scores: those of ``summarize``.

    Raises:
        CapabilityError: the engine gives no distributions.
        MeasurementError: the reference lacks an item, or a divergence that is not finite.
    """
    lacking = [passage.id for passage in prose.passages if passage.hash not in reference]
    if lacking:
        raise MeasurementError(
            f"the reference has no distributions of {len(lacking)} of {len(prose.passages)} passages, such as "
            f"{lacking[0]!r}",
            "let the reference score these passages again",
        )
    wanted = {key: reference[key].ids for key in prose.sequences}
    found = distribute_sequences(engine, tokenizer, prose.sequences, wanted, prose.prefill)
    compared = {key: compare(reference[key], found[key], prose.first) for key in found}
    scores = summarize(list(compared.values()))
    if floor is not None:
        scores["floor"] = floor
    settings = {**prose.settings, "cells": cells, "reference": reference_id}
    items = {key: each.row for key, each in compared.items()}
    scored = {key: each.scores.tolist() for key, each in found.items()}
    return {
        "divergence": quality_entry(engine, "divergence", REVISION, settings, COLUMNS, items, scores),
        "perplexity": perplexity_of(engine, tokenizer, prose, scored),
    }


@dataclass(frozen=True)
class Compared:
    """Two distributions of one sequence, position by position: arrays [positions].

    Attributes:
        kld: nats.
        same_top: 1 where both have the same likeliest token.
        delta_p: probability of the token that came, less the reference's.
        named: the reference's probability of the tokens that both name.
    """

    kld: NDArray[np.float64]
    same_top: NDArray[np.float64]
    delta_p: NDArray[np.float64]
    named: NDArray[np.float64]

    @property
    def row(self) -> tuple[float, ...]:
        """The sums of one item, in the order of ``COLUMNS``."""
        sums = (self.kld, np.ones_like(self.kld), self.same_top, self.delta_p, self.delta_p**2, self.named)
        return tuple(math.fsum(values) for values in sums)


def compare(reference: Distribution, engine: Distribution, first: int = 0) -> Compared:
    """Compare an engine's distributions of one sequence with the reference's, from position ``first`` on.

    Raises MeasurementError where they are of other lengths, or a divergence is not finite.
    """
    if len(reference.scores) != len(engine.scores):
        raise MeasurementError(
            f"the reference scored {len(reference.scores)} positions, the engine {len(engine.scores)}",
            "let the reference score these passages again",
        )
    p, q = _common_cells(reference, engine)
    # Below the least p is 0 for float32, and its part of the sum, too.
    kld = (np.exp(p) * (np.maximum(p, _LEAST) - np.maximum(q, _LEAST))).sum(1)
    if not np.isfinite(kld).all():
        raise MeasurementError("a KL divergence is not finite", "see whether the engine's logits overflow")
    return Compared(
        kld=kld[first:],
        same_top=(reference.likeliest == engine.likeliest)[first:].astype(np.float64),
        delta_p=(np.exp(engine.scores) - np.exp(reference.scores))[first:],
        named=np.exp(p[first:, :-1]).sum(1),
    )


def _common_cells(p: Distribution, q: Distribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-probabilities of both, [positions, cells + 1]: of the tokens that both name, and of all others as the last.

    Cells that only one names are -inf, and counted with the others.
    """
    if p.ids.shape == q.ids.shape and (p.ids == q.ids).all():
        shared, theirs = p.ids >= 0, q.values
    else:
        same = (p.ids[:, :, None] == q.ids[:, None, :]) & (p.ids >= 0)[:, :, None]
        shared, theirs = same.any(2), np.take_along_axis(q.values, same.argmax(2), 1)
    mine, theirs = np.where(shared, p.values, -np.inf), np.where(shared, theirs, -np.inf)
    return np.column_stack([mine, _others(p, mine)]), np.column_stack([theirs, _others(q, theirs)])


def _others(whole: Distribution, shared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the mass of all tokens but the shared ones: what is named beside them, and the rest."""
    alone = (whole.ids >= 0).sum(1) > np.isfinite(shared).sum(1)
    beside = np.exp(whole.values).sum(1) - np.exp(shared).sum(1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(whole.rest) + np.where(alone, np.maximum(beside, 0.0), 0.0)))


def summarize(compared: Sequence[Compared]) -> dict[str, float]:
    """The headline scores of documents, in nats and shares.

    ``kld`` is the mean over all positions and ``kld_stderr`` its standard error with documents as clusters; quantiles
    over positions are ``kld_99.9`` and so on, with ``kld_max`` and ``kld_min``; ``same_top_p``; ``delta_p`` (mean),
    ``delta_p_rms`` and its quantiles; ``named``, the reference's mean probability of the tokens that are compared one
    by one; ``tokens`` and ``documents``.
    """
    kld, tokens = (np.array([each.row[place] for each in compared]) for place in (0, 1))
    mean, error = ratio_of_sums(kld, tokens)
    values, changes = (np.concatenate([getattr(each, name) for each in compared]) for name in ("kld", "delta_p"))
    scores = {"kld": mean, "kld_stderr": error if len(compared) > 1 else math.nan}
    scores |= {"kld_max": float(values.max()), "kld_min": float(values.min())}
    scores |= {f"kld_{share:g}": float(np.percentile(values, share)) for share in QUANTILES}
    scores["same_top_p"] = fmean(np.concatenate([each.same_top for each in compared]))
    scores |= {"delta_p": fmean(changes), "delta_p_rms": math.sqrt(fmean(changes**2))}
    scores |= {f"delta_p_{share:g}": float(np.percentile(changes, share)) for share in QUANTILES}
    scores["named"] = fmean(np.concatenate([each.named for each in compared]))
    return scores | {"tokens": float(tokens.sum()), "documents": float(len(compared))}
