"""Fill the tables of docs/quality_results.md from their records: python scripts/sensitivity/page.py [--check]

Below a line ``<!-- sensitivity: RECORD -->`` (or ``divergence``, ``few``, ``loss``) stands what that record of
docs/results/quality says, and below ``<!-- columns: RUN... -->`` what runs of its folder ``records`` say, up to
``<!-- end -->``.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from enginegate.config.loading import load_config
from enginegate.core.records import QualityEntry, RunRecord
from enginegate.gates.accuracy import judge_accuracy
from enginegate.gates.divergence import judge_divergence
from enginegate.gates.items import QualityPolicy, ratio_of_sums, t_bound
from enginegate.gates.mcnemar import visible_loss
from enginegate.gates.quality import judge_corpus, judge_flips, judge_lengths, judge_nll
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import BLEU_COLUMNS, corpus_bleu
from enginegate.storage.summary import worst
from scipy.special import ndtri
from scipy.stats import binomtest

sys.path.append(str(Path(__file__).resolve().parents[1]))
import pages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quality_results.md"
RECORDS = ROOT / "docs" / "results" / "quality"
#: Gates that share the session's 1 % here: eight of each of three engines.
GATES = 24
_QUALITY = load_config(ROOT / "configs" / "smollm2-135m.yaml").file.gates.quality
_ALPHA = 0.01 / GATES
_SHOWN = {Status.PASS: "pass", Status.FAIL: "**FAIL**", Status.INCONCLUSIVE: "open"}

Entries = Mapping[str, QualityEntry]


def _policy(margins: Any) -> QualityPolicy:
    return QualityPolicy(alpha=_ALPHA, beta=_QUALITY.beta, margin=margins.margin, tolerated=margins.tolerated)


def _columns(entry: QualityEntry, *names: str) -> dict[str, tuple[float, ...]]:
    places = [entry.columns.index(name) for name in names]
    return {item: tuple(float(row[place]) for place in places) for item, row in entry.items.items()}


def _single(entry: QualityEntry, name: str) -> dict[str, float]:
    return {item: row[0] for item, row in _columns(entry, name).items()}


def judged(good: Entries, bad: Entries, unquantized: Entries) -> dict[str, Verdict]:
    """The verdict of every quality gate on one engine, compared with another as its baseline.

    ``unquantized``: a second unquantized engine beside the reference, as a session has it.
    """
    plain = QualityPolicy(alpha=_ALPHA, beta=_QUALITY.beta, visible=_QUALITY.accuracy_visible)
    pairs: Any = _columns
    return {
        "accuracy": judge_accuracy(
            _single(bad["cloze"], "acc_norm"), _single(good["cloze"], "acc_norm"), plain, chance=0.25
        ),
        "flips": judge_flips(
            _single(bad["cloze"], "chosen_norm"), _single(good["cloze"], "chosen_norm"), plain, limit=_QUALITY.flips
        ),
        "perplexity": judge_nll(
            pairs(bad["perplexity"], "nll", "tokens"),
            pairs(good["perplexity"], "nll", "tokens"),
            _policy(_QUALITY.perplexity),
        ),
        "divergence": judge_divergence(
            pairs(bad["divergence"], "kld", "tokens"),
            pairs(good["divergence"], "kld", "tokens"),
            _policy(_QUALITY.divergence),
            floor=float(unquantized["divergence"].scores["kld"]),
        ),
        "BLEU": judge_corpus(
            _columns(bad["similarity"], *BLEU_COLUMNS),
            _columns(good["similarity"], *BLEU_COLUMNS),
            partial(corpus_bleu, smoothing="exp"),
            _policy(_QUALITY.bleu),
            unquantized=_columns(unquantized["similarity"], *BLEU_COLUMNS),
        ),
        "ROUGE-L": judge_corpus(
            _columns(bad["similarity"], "rougeL"),
            _columns(good["similarity"], "rougeL"),
            lambda statistics: float(statistics.mean()),
            _policy(_QUALITY.rouge),
            unquantized=_columns(unquantized["similarity"], "rougeL"),
        ),
        "summaries": judge_corpus(
            _columns(bad["summaries"], "rougeL"),
            _columns(good["summaries"], "rougeL"),
            lambda statistics: float(statistics.mean()),
            _policy(_QUALITY.rouge),
        ),
        "length": judge_lengths(
            _single(bad["similarity"], "length"),
            _single(bad["similarity"], "reference_length"),
            plain,
            minimum=_QUALITY.length_ratio,
        ),
    }


def _read(name: str) -> tuple[dict[str, Any], dict[str, dict[str, QualityEntry]]]:
    record = json.loads(gzip.decompress((RECORDS / name).read_bytes()))
    engines = {
        engine: {metric: QualityEntry.model_validate_json(json.dumps(entry)) for metric, entry in entries.items()}
        for engine, entries in record["engines"].items()
    }
    return record, engines


def _floor(engines: Mapping[str, Entries]) -> float:
    return float(engines["bf16"]["divergence"].scores["kld"])


def sensitivity(name: str) -> Iterator[str]:
    """A line for each broken engine: what every gate says of it."""
    record, engines = _read(name)
    verdicts = {bad: judged(engines[good], engines[bad], engines["bf16"]) for bad, good in record["pairs"].items()}
    gates = list(next(iter(verdicts.values())))
    yield from _table(
        ["accepted", "engine", *gates, "all"],
        [
            [
                record["pairs"][bad],
                bad,
                *(_SHOWN[found[gate].status] for gate in gates),
                "**FAIL**" if worst([each.status.value for each in found.values()]) == "FAIL" else "no FAIL",
            ]
            for bad, found in verdicts.items()
        ],
    )
    yield ""
    yield f"{record['model']} on {record['device']}, torch {record['torch']}, Transformers {record['transformers']};"
    cloze, prose = (next(iter(engines.values()))[metric] for metric in ("cloze", "perplexity"))
    tokens = prose.scores["tokens"]
    yield (
        f"{len(cloze.items)} questions, {tokens:,.0f} tokens in {len(prose.items)} passages; alpha {_ALPHA:.2g} a gate,"
        f" floor of the divergence {_floor(engines):.5f} nats."
    )


def divergence(name: str) -> Iterator[str]:
    """Divergence, agreement and likelihood of each engine, and the tokens that tell two of them apart."""
    record, engines = _read(name)
    shown = [engine for engine in engines if not engine.startswith("bf16 in batches") and "BOS" not in engine]
    rows = []
    base = engines["fp32"]["perplexity"]
    for engine in shown:
        scores = engines[engine]["divergence"].scores
        worse = _paired(engines[engine]["perplexity"], base, "nll")
        rows.append(
            [
                engine,
                f"{scores['kld']:.5f} ± {scores['kld_stderr']:.5f}",
                f"{scores['kld_50']:.5f}",
                f"{scores['kld_99']:.4f}",
                f"{100 * scores['same_top_p']:.1f}",
                f"{100 * scores['delta_p']:+.3f}",
                f"{100 * scores['delta_p_rms']:.2f}",
                f"{worse[0]:+.4f}",
                f"{100 * scores['named']:.0f}",
            ]
        )
    head = ["engine", "mean KLD", "median", "99 %", "same top p %", "mean Δp %", "RMS Δp %", "ΔNLL", "named %"]
    yield from _table(head, rows)
    yield ""
    yield from _table(
        ["accepted → new", "tokens by KLD", "by NLL", "by same top p"],
        [
            [f"{good} → {bad}", *(_needed(engines[bad], engines[good], gate) for gate in ("kld", "nll", "same_top"))]
            for bad, good in record["pairs"].items()
            if bad in shown and good in shown
        ],
    )


def few(name: str) -> Iterator[str]:
    """What the gate says of a coarser group over ten random choices of documents of at most 5,000 tokens."""
    _, engines = _read(name)
    good, bad = (_columns(engines[each]["divergence"], "kld", "tokens") for each in ("int4 group 64", "int4 group 128"))
    found = []
    for seed in range(10):
        order, picked, tokens = sorted(good), [], 0.0
        random.Random(seed).shuffle(order)
        for item in order:
            if tokens + good[item][1] > 5000:
                break
            tokens += good[item][1]
            picked.append(item)
        pairs: Any = ({item: part[item] for item in picked} for part in (bad, good))
        found.append(judge_divergence(*pairs, _policy(_QUALITY.divergence), floor=_floor(engines)).status)
    yield (
        f"int4 group 64 → 128, ten random choices of passages with at most 5,000 tokens: {found.count(Status.FAIL)} of"
        f" {len(found)} FAIL."
    )


def columns(names: str) -> Iterator[str]:
    """The quality columns of every engine of some runs, with 95 % intervals where they are means over items.

    Metrics of one engine may come from several of the runs; of those that two of them have, the first one's count.
    """
    found: dict[str, dict[str, QualityEntry]] = {}
    owners: dict[str, tuple[str, str]] = {}
    for name in names.split():
        record = RunRecord.model_validate_json((RECORDS / "records" / name / "run.json").read_bytes())
        owners |= {built.id: (record.model.name, built.backend) for built in record.engines}
        for entry in record.quality:
            found.setdefault(entry.engine, {}).setdefault(entry.metric, entry)
    shown = {engine: entries for engine, entries in found.items() if {"summaries", "perplexity"} <= entries.keys()}
    rows = [[engine, *_figures(entries)] for engine, entries in shown.items()]
    sets: dict[tuple[str, str], dict[str, list[str]]] = {}
    for metric in ("perplexity", "letters", "cloze", "summaries"):
        for engine, entries in shown.items():
            entry = entries.get(metric)
            if entry is not None and entry.data is not None:
                shots = f", {entry.data.shots}-shot" if entry.data.shots else ""
                digest = entry.data.digest[:12]
                file = re.split("[/:]", entry.data.name)[-1]
                what = f"{len(entry.items)} of {file} (sha256 {digest}){shots}"
                model, backend = owners[engine]
                sets.setdefault((model, metric), {}).setdefault(what, []).append(backend)
    heads = [
        "engine",
        "letters %",
        "calibrated",
        "ties",
        "cloze %",
        "ROUGE-1",
        "-2",
        "-L",
        "-Lsum",
        "BLEU",
        "perplexity",
    ]
    yield from _table([*heads, "KLD"], rows)
    yield ""
    for (model, metric), used in sorted(sets.items(), key=lambda item: item[0][0], reverse=True):
        told = (what if len(used) == 1 else f"{', '.join(dict.fromkeys(by))}: {what}" for what, by in used.items())
        yield f"- {model}, {metric}: {'; '.join(told)}."


def _figures(entries: Entries) -> Iterator[str]:
    letters, cloze = entries.get("letters"), entries.get("cloze")
    yield "–" if letters is None else _share(letters, "acc")
    yield "–" if letters is None else f"{100 * letters.scores['accuracy_calibrated']:.1f}"
    yield "–" if letters is None else f"{100 * letters.scores['ties']:.1f}"
    yield "–" if cloze is None else _share(cloze, "acc_norm")
    for column in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        yield f"{100 * entries['summaries'].scores[column]:.1f}"
    yield f"{entries['similarity'].scores['bleu']:.1f}" if "similarity" in entries else "–"
    mean, error = ratio_of_sums(*np.array(list(_columns(entries["perplexity"], "nll", "tokens").values())).T)
    reach = t_bound(len(entries["perplexity"].items) - 1, 0.025) * error
    yield f"{np.exp(mean):.2f} [{np.exp(mean - reach):.2f}, {np.exp(mean + reach):.2f}]"
    kld = entries.get("divergence")
    yield "–" if kld is None else f"{kld.scores['kld']:.5f} ± {kld.scores['kld_stderr']:.5f}"


def _share(entry: QualityEntry, column: str) -> str:
    values = np.array(list(_single(entry, column).values()))
    low, high = binomtest(round(float(values.sum())), len(values)).proportion_ci(0.95, "wilson")
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _paired(one: QualityEntry, other: QualityEntry, column: str) -> tuple[float, float, float]:
    """Mean difference a token, its standard error over documents, and the tokens."""
    mine, theirs = _columns(one, column, "tokens"), _columns(other, column, "tokens")
    apart = np.array([mine[item][0] - theirs[item][0] for item in sorted(mine)])
    tokens = np.array([mine[item][1] for item in sorted(mine)])
    return *ratio_of_sums(apart, tokens), float(tokens.sum())


def _needed(bad: Entries, good: Entries, column: str) -> str:
    """Tokens that show the difference with a power of 95 % at alpha 0.001, one-sided, without a margin."""
    metric = "perplexity" if column == "nll" else "divergence"
    mean, error, tokens = _paired(bad[metric], good[metric], column)
    worse = -mean if column == "same_top" else mean
    if worse <= 0:
        return "never"
    factor = float(ndtri(0.999) + ndtri(0.95))
    return f"{tokens * (factor * error / worse) ** 2:,.0f}"


def loss(name: str) -> Iterator[str]:
    """The smallest loss of accuracy that sets of several sizes show, for as many flips as two engines had."""
    record, engines = _read(name)
    sizes = (480, 570, 1880, 14_042)
    rows = []
    for bad, good in record["pairs"].items():
        if bad.startswith(("int", "bf16 in batches of 8")) or bad == "bf16":
            one, two = (_single(engines[each]["cloze"], "acc_norm") for each in (bad, good))
            discordance = (sum(one[item] != two[item] for item in one) + 1) / (len(one) + 1)
            seen = [visible_loss(size, discordance, _ALPHA, 0.95) for size in sizes]
            points = ["–" if each is None else f"{100 * each:.1f}" for each in seen]
            rows.append([f"{good} → {bad}", f"{100 * discordance:.1f}", *points])
    heads = ["480 questions", "570", "1,880 (all bundled)", "14,042 (all of MMLU)"]
    yield from _table(["accepted → new", "answers that turned %", *heads], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


TABLES = {"sensitivity": sensitivity, "divergence": divergence, "few": few, "loss": loss, "columns": columns}


if __name__ == "__main__":
    raise SystemExit(pages.main(PAGE, TABLES))
