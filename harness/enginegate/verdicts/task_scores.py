"""By which gate the score of a task of lm-evaluation-harness is judged."""

from __future__ import annotations

from enginegate.core.records import QualityEntry
from enginegate.verdicts.inputs import AccuracyInputs, CorpusInputs, NllInputs

#: Scores that say right or wrong of a document.
_RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"})


def task_gate(
    entry: QualityEntry,
) -> tuple[type[AccuracyInputs] | type[NllInputs] | type[CorpusInputs], list[str]]:
    """The kind of gate, and the columns that it reads.

    The score that is judged is the entry's first column. A log-likelihood is judged as perplexity is, right and wrong
    answers as accuracy, and everything else by its mean: also an accuracy that is a share, as of several right answers.
    """
    first = entry.columns[0]
    if first == "nll":
        return NllInputs, entry.columns[:2]
    values = [row[0] for row in entry.items.values()]
    shares = all(0 <= value <= 1 for value in values) and any(0 < value < 1 for value in values)
    if first.partition(",")[0] in _RIGHT_OR_WRONG and not shares:
        return AccuracyInputs, [first]
    return CorpusInputs, [first]
