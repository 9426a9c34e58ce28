"""Tasks of lm-evaluation-harness: by which gate each score is judged, in a comparison of two records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from enginegate.cli import main
from enginegate.config.schema import Floors, GatesSection
from enginegate.core.records import QualityEntry
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.plan.gates import EngineGates, ModelFacts
from enginegate.storage.runs import save_record
from enginegate.verdicts.inputs import AccuracyInputs, CorpusInputs, NllInputs
from enginegate.verdicts.task_scores import task_gate

from tests_harness.storage.factory import MODEL, run_record

ENGINE = f"{MODEL}-openvino-int8_wo"


def entry(columns: list[str], rows: list[list[float]]) -> QualityEntry:
    return QualityEntry(
        engine=ENGINE,
        metric="lm_eval:toy",
        version="lm_eval:toy/1;shots=0;items=0",
        columns=columns,
        items={f"{number:04}": row for number, row in enumerate(rows)},
        scores={},
    )


@pytest.mark.parametrize(
    ("columns", "rows", "kind"),
    [
        (["acc_norm", "acc"], [[1, 0], [0, 0]], AccuracyInputs),
        (["exact_match,strict-match"], [[1], [0]], AccuracyInputs),
        (["acc"], [[1], [0.5]], CorpusInputs),
        (["acc"], [[7], [0.5]], AccuracyInputs),  # no engine has such a score: that gate says so
        (["acc"], [[math.nan], [1]], AccuracyInputs),
        (["f1"], [[1], [0]], CorpusInputs),
        (["-ter"], [[-0.2], [-0.4]], CorpusInputs),
        (["nll", "words", "bytes"], [[3.5, 4, 20]], NllInputs),
    ],
)
def test_the_score_says_by_which_gate(columns: list[str], rows: list[list[float]], kind: type) -> None:
    found, read = task_gate(entry(columns, rows))
    assert found is kind
    assert read == (columns[:2] if kind is NllInputs else columns[:1])


@pytest.mark.parametrize(
    ("columns", "rows", "kind", "reference", "margins", "subject"),
    [
        (["acc"], [[1], [0]], AccuracyInputs, "tiny-8m-hf-fp32", (0.01, 0.03), "int8_wo toy acc"),
        (["nll", "words"], [[3.5, 4]], NllInputs, None, (0.005, 0.02), "int8_wo toy nll"),
        (["f1"], [[0.5]], CorpusInputs, None, (0.2, 0.4), "int8_wo toy f1"),
        (["-ter"], [[-0.5]], CorpusInputs, None, (0.2, 0.4), "int8_wo toy -ter"),
    ],
)
def test_a_gate_has_the_margins_of_its_kind(
    columns: list[str],
    rows: list[list[float]],
    kind: type,
    reference: str | None,
    margins: tuple[float, float],
    subject: str,
) -> None:
    own = GatesSection.model_validate({"quality": {"lm_eval": {"margin": 0.2, "tolerated": 0.4}}})
    spec = EngineSpec(MODEL, "openvino", "int8_wo")
    config = SimpleNamespace(file=SimpleNamespace(gates=own), floors=lambda _: Floors(accuracy_loss=0.04))
    plan = SimpleNamespace(alpha=lambda _: 0.001, require_baseline=False, quality={})
    candidate = SimpleNamespace(config=config, spec=spec, id=spec.id, runtime=RuntimeSpec())
    facts = ModelFacts("d", lambda: spec, EngineSpec(MODEL, "hf", "fp32"), "run")
    inputs = EngineGates(plan, candidate, facts).lm_eval(entry(columns, rows))  # type: ignore[arg-type]
    assert type(inputs) is kind
    assert (inputs.reference, inputs.subject, inputs.policy.alpha) == (reference, subject, 0.001)
    assert (inputs.policy.margin, inputs.policy.tolerated) == margins
    assert inputs.limit == (0.04 if kind is AccuracyInputs else None), "a floor is of accuracy alone"


def saved(folder: Path, run: str, measured: QualityEntry) -> str:
    record = run_record(run, quality=False).model_copy(update={"quality": [measured]})
    return str(save_record(record, folder))


RIGHT = [[float(number % 10 > 1)] for number in range(200)]
FEWER = [[float(number % 10 > 3)] for number in range(200)]
SHARES = [[0.5 + number % 7 / 20] for number in range(200)]
SMALLER = [[0.3 + number % 7 / 20] for number in range(200)]
TEXTS = [[20.0 + number % 7, 10.0] for number in range(200)]
WORSE = [[21.0 + number % 7, 10.0] for number in range(200)]


@pytest.mark.parametrize(
    ("columns", "good", "bad"),
    [(["acc"], RIGHT, FEWER), (["f1"], SHARES, SMALLER), (["nll", "words"], TEXTS, WORSE)],
    ids=["right or wrong", "a mean", "perplexity"],
)
def test_what_was_lost_is_found_in_records(
    columns: list[str],
    good: list[list[float]],
    bad: list[list[float]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [
        saved(tmp_path, name, entry(columns, rows)) for name, rows in (("old", good), ("new", bad), ("same", good))
    ]

    def outcome(*runs: str) -> str:
        main(["compare", *runs, "--json"])
        found = json.loads(capsys.readouterr().out)["compared"]
        return next(item["outcome"] for item in found if item["metric"] == "lm_eval:toy")

    assert outcome(paths[0], paths[1]) == "worse"
    assert outcome(paths[0], paths[2]) == ("undecided" if columns == ["acc"] else "same"), "200 flips see no 3 points"


def test_a_score_that_none_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        saved(tmp_path, name, entry(["acc"], rows)) for name, rows in (("old", RIGHT), ("new", [[7.0], *RIGHT[1:]]))
    ]
    assert main(["compare", *paths]) == 2
    assert "have no credit between 0 (wrong) and 1 (right)" in capsys.readouterr().err


def test_a_task_may_call_its_scores_as_ours_are_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rouge1 from 0 to 100 is no damage there."""
    rows = [[40.0 + number % 7] for number in range(50)]
    paths = [saved(tmp_path, name, entry(["rouge1"], rows)) for name in ("old", "new")]
    main(["compare", *paths, "--json"])
    found = json.loads(capsys.readouterr().out)["compared"]
    assert "lm_eval:toy" in {item["metric"] for item in found}
