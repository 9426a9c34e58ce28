"""What an earlier schema wrote is read as this one's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import BaselineError, RecordError
from enginegate.core.identity import runtime_digest
from enginegate.core.records import SCHEMA
from enginegate.storage.baselines import perf_path, quality_path, read_perf, read_quality
from enginegate.storage.migration import PERF, QUALITY, RECORD, migrate
from enginegate.storage.runs import load_record, save_record

from tests_harness.storage.factory import MODEL, before_figures, engine_entry, run_record

ENGINE = engine_entry("tiny-8m-openvino-int8_wo")


def old_record() -> dict[str, Any]:
    """As schema 1 wrote it: no variants, no digests, ``mmlu``, and NaN."""
    record = before_figures(run_record(quality=True).model_dump(mode="json"))
    record["schema_version"] = 1
    for engine in record["engines"]:
        del engine["variant"], engine["runtime_digest"]
        engine["runtime"] = {"kv_precision": "int8", "threads": 0}
    record["quality"][0]["metric"] = "mmlu"
    record["quality"][0]["version"] = "mmlu/1;items=8"
    record["arenas"][0]["blocks"][0]["rounds"][0] |= {"itl_p50": math.nan, "foreign_load": math.nan}
    return record


def test_an_old_record_is_read_with_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(old_record()))
    record = load_record(path)
    assert record.schema_version == SCHEMA
    for engine in record.engines:
        assert engine.variant == ""
        assert engine.runtime_digest == runtime_digest({"kv_precision": "int8"})
        assert engine.ref(record.model.name).id == engine.id
    assert (record.quality[0].metric, record.quality[0].version) == ("letters", "letters/1;items=8")
    first, second = record.arenas[0].blocks[0].rounds[:2]
    assert set(first.figures) == {"ttft", "itl_p95", "itl_p99"}
    assert set(second.figures) == {"ttft", "itl_p50", "itl_p95", "itl_p99"}


def test_an_old_engine_over_two_devices_is_not_taken_for_one_on_a_single_device(tmp_path: Path) -> None:
    """Both had one name; by it a baseline of the one would have judged the other."""
    old = old_record()
    engine = next(each for each in old["engines"] if each["role"] == "candidate")
    engine["spec"]["tensor_parallel"] = 2
    path = tmp_path / "run.json"
    path.write_text(json.dumps(old))
    record = load_record(path)
    named = f"{engine['id']}@tp2"
    assert named in {each.id for each in record.engines}
    told = [*record.arenas[0].contestants, *(entry.engine for entry in [*record.memory, *record.quality])]
    assert named in told
    assert engine["id"] not in told
    (entry,) = [each for each in record.engines if each.id == named]
    assert (entry.variant, entry.ref(record.model.name).id) == ("tp2", named)


def test_an_old_verdict_without_a_policy_costs_itself_alone(tmp_path: Path) -> None:
    old = old_record()
    verdict = {"gate": "speed", "metric": "speedup"}
    old["verdicts"] = [
        {
            "test": "t", "engine": ENGINE.id, "workload": None, "status": "PASS", "metric": "speedup", "estimate": 1.0,
            "interval": [1.0, 1.0], "unit": "x", "baseline": None, "change": None, "margin": 0.0, "alpha": 0.01,
            "smallest_visible": None, "samples": 1, "explanation": "", "warnings": [], "accepted": True,
            "inputs": verdict,
        }
    ]  # fmt: skip
    path = tmp_path / "run.json"
    path.write_text(json.dumps(old))
    assert len(load_record(path).verdicts) == 1


def test_what_is_written_is_json_that_others_read(tmp_path: Path) -> None:
    """NaN is no JSON; it used to be written, and every strict reader refused the file."""
    (tmp_path / "run.json").write_text(json.dumps(old_record()))
    text = save_record(load_record(tmp_path), tmp_path / "new").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    again = json.loads(text, parse_constant=refuse)
    assert again["arenas"][0]["blocks"][0]["rounds"][0]["foreign_load"] is None
    assert math.isnan(load_record(tmp_path / "new" / again["id"]).arenas[0].blocks[0].rounds[0].foreign_load)


def test_metric_names_change_as_whole_words() -> None:
    verdict = {
        "metric": "mmlu_accuracy",
        "inputs": {"source": "mmlu", "subject": "int8_wo mmlu accuracy", "metric": "x"},
    }
    (migrated,) = migrate({"schema_version": 1, "verdicts": [verdict]}, RECORD)["verdicts"]
    assert migrated["metric"] == "letters_accuracy"
    assert migrated["inputs"] == {"source": "letters", "subject": "int8_wo letters accuracy", "metric": "x"}


def test_an_old_quality_baseline_is_read(tmp_path: Path) -> None:
    provenance = {"run": "a", "started": "", "commit": "", "fingerprint": "f", "versions": {"engine": "openvino 1"}}
    metric = {
        "provenance": provenance,
        "version": "mmlu/1;items=8",
        "columns": ["acc"],
        "items": {"i": [1.0]},
        "scores": {},
    }
    old = {
        "schema_version": 1,
        "model": MODEL,
        "model_digest": "d" * 64,
        "backend": "openvino",
        "precision": "int8_wo",
        "metrics": {"mmlu": metric},
    }
    path = quality_path(tmp_path, MODEL, ENGINE)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(old))
    baseline = read_quality(tmp_path, MODEL, ENGINE)
    assert baseline is not None
    assert baseline.variant == ""
    assert baseline.metric("letters", "letters/1;items=9") is not None


def test_an_old_perf_baseline_is_read_and_leaves_gaps_where_nothing_was_stored(tmp_path: Path) -> None:
    provenance = {"run": "a", "started": "", "commit": "", "fingerprint": "f", "versions": {"engine": "openvino 1"}}
    session = {"provenance": provenance, "size_bytes": 1, "build_seconds": 1.0, "log_ratios": {"speedup": [0.5] * 8}}
    old = {
        "schema_version": 1,
        "model": MODEL,
        "model_digest": "d" * 64,
        "fingerprint": "f",
        "workload": "b1-i64-o64",
        "reference": "r",
        "engines": {ENGINE.id: {"sessions": [session], "memory": None}},
    }
    path = perf_path(tmp_path, "f", MODEL, "b1-i64-o64")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(old))
    baseline = read_perf(tmp_path, "f", MODEL, "b1-i64-o64")
    assert baseline is not None
    (stored,) = baseline.engines[ENGINE.id].sessions
    assert (stored.key, stored.runtime_digest, stored.provenance.libraries) == ("", "", {})


def test_figures_of_a_round_become_a_mapping_and_nothing_else_changes(tmp_path: Path) -> None:
    record = run_record()
    content = record.model_dump(mode="json")
    old = before_figures(content)
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert load_record(tmp_path) == record

    def race(arenas: list[dict[str, Any]]) -> dict[str, Any]:
        rounds = {arena["workload"]: arena["blocks"] for arena in arenas}
        return {"races": [{"launches": [{"blocks": rounds, "first_tokens": rounds}, {"blocks": rounds}]}]}

    migrated = migrate({"schema_version": 2} | race(old["arenas"]), RECORD)
    assert migrated["races"] == race(content["arenas"])["races"]


@pytest.mark.parametrize("field", ["ttft", "itl_p99"])
def test_an_old_round_without_a_figure_that_all_had_is_damaged(tmp_path: Path, field: str) -> None:
    old = old_record()
    del old["arenas"][0]["blocks"][0]["rounds"][0][field]
    (tmp_path / "run.json").write_text(json.dumps(old))
    with pytest.raises(RecordError, match=f"not laid out as schema version 2 is: '{field}'"):
        load_record(tmp_path)


@pytest.mark.parametrize("value", [None, True, "1.0"])
def test_a_figure_that_is_no_number_is_damage(tmp_path: Path, value: object) -> None:
    content = run_record().model_dump(mode="json")
    content["arenas"][0]["blocks"][0]["rounds"][0]["figures"]["ttft"] = value
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"figures\.ttft.*valid number"):
        load_record(tmp_path)


@pytest.mark.parametrize("damage", [{"engines": 3}, {"engines": [3]}, {"verdicts": {"a": 1}}, {"quality": [None]}])
def test_a_damaged_old_record_is_refused_as_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(old_record() | damage))
    with pytest.raises(RecordError, match="is damaged"):
        load_record(path)


@pytest.mark.parametrize("content", [{"engines": [1]}, {"engines": {"a": 1}}, {"engines": {"a": {"sessions": 1}}}])
def test_a_damaged_old_baseline_is_refused_as_damaged(tmp_path: Path, content: dict[str, Any]) -> None:
    path = perf_path(tmp_path, "f", MODEL, "b1-i64-o64")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema_version": 1} | content))
    with pytest.raises(BaselineError, match="is damaged"):
        read_perf(tmp_path, "f", MODEL, "b1-i64-o64")


@pytest.mark.parametrize("version", [0, 99, None, "1", True])
def test_an_unknown_version_is_no_reason_to_guess(version: object) -> None:
    for steps in (RECORD, QUALITY, PERF):
        content = {"schema_version": version}
        assert migrate(content, steps) == content
