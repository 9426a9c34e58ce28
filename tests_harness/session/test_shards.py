"""Merging the records of a session's shards: nothing is lost, nothing is there twice, strangers are refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from enginegate.cli import main
from enginegate.core.errors import BaselineError, RecordError
from enginegate.core.records import AnswersEntry, JointEntry, RunRecord, ShardRun, ShardsEntry, TextEntry
from enginegate.gates.sequential import SpeedPolicy
from enginegate.plan.shards import deal
from enginegate.report.markdown import markdown_summary
from enginegate.report.rows import record_rows
from enginegate.report.verdicts import recompute_verdicts
from enginegate.session.shards import merge_shards, missing_shards
from enginegate.storage.accept import apply_accept
from enginegate.storage.baselines import read_perf
from enginegate.storage.runs import load_record, save_record
from enginegate.storage.summary import measurements
from enginegate.storage.texts import load_texts
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge
from enginegate.verdicts.lookup import beside

from tests_harness.storage.factory import (
    MODEL,
    REFERENCE,
    SPEEDUPS,
    engine_entry,
    memory_entry,
    quality_entry,
    run_record,
    verdict_entry,
)

ENGINES = list(SPEEDUPS)
WORK = "b8-i64-o64"


def shard(number: int, of: int = 2, **changes: Any) -> RunRecord:
    """One shard of a session: its engines are gated on a floor at batch 8, and the reference is measured in each."""
    dealt = deal(ENGINES, of)
    entry = ShardsEntry(
        plan="p" * 16,
        base="",
        models=[MODEL],
        engines=[list(engines) for engines in dealt],
        held=[
            ShardRun(
                number=number, run=f"run-{number}", started=f"2026-11-21T09:1{number}:00", machine="epyc-2c-0a1b2c3d"
            )
        ],
    )
    record = run_record(
        f"run-{number}",
        {engine: SPEEDUPS[engine] for engine in dealt[number - 1]},
        seed=number,
        verdicts=[],
        shards=entry,
        started=f"2026-11-21T09:1{number}:00",
        finished=f"2026-11-21T09:2{number}:00",
        installed=["torch==2.4.0"],
        arguments=["tests_perf", f"--shard={number}/{of}", "--eg-shard", f"{number}/{of}", "-q"],
    )
    record = record.model_copy(
        update={
            "memory": [*record.memory, memory_entry(REFERENCE, peak=number)],
            "quality": [*record.quality, quality_entry(REFERENCE, accuracy=0.5 + number / 100)],
        }
    )
    verdicts = [_gated(record, engine) for engine in dealt[number - 1]]
    return record.model_copy(update={"verdicts": verdicts} | changes)


def _gated(record: RunRecord, engine: str) -> Any:
    inputs: dict[str, Any] = {
        "gate": "speed",
        "metric": "speedup",
        "workload": WORK,
        "candidate": engine,
        "reference": REFERENCE,
        "reference_label": "hf-bf16",
        "subject": engine,
        "against": {"kind": "floor", "ratio": 1.2},
        "policy": asdict(SpeedPolicy()),
    }
    verdict = judge(restore_inputs(inputs), record)
    fields = asdict(verdict) | {"status": verdict.status.value, "warnings": [], "accepted": bool(verdict)}
    return verdict_entry(engine, WORK, **fields, inputs=inputs)


def merged(*parts: RunRecord) -> RunRecord:
    (record,) = merge_shards(parts, "merged")
    return record


def test_nothing_is_lost_and_nothing_is_there_twice(tmp_path):
    parts = [shard(number, quality_planned=[ENGINES[number - 1]]) for number in (1, 2)]
    one, two = (load_record(save_record(part, tmp_path)) for part in parts)
    record = load_record(save_record(merged(two, one), tmp_path))
    assert (record.id, record.status) == ("merged", "complete")
    assert (record.started, record.finished) == (one.started, two.finished)
    assert record.arguments == ["tests_perf", "-q"]
    assert {entry.id for entry in record.engines} == {REFERENCE, *ENGINES}
    assert len(record.engines) == 4
    assert record.arenas == [*one.arenas, *two.arenas]
    assert record.verdicts == [*one.verdicts, *two.verdicts]
    assert {(item.engine, item.metric) for item in measurements(record)} == {
        (item.engine, item.metric) for part in (one, two) for item in measurements(part)
    }
    assert len(record_rows(record)) == 8, "four engines at two batch sizes"
    assert record.quality_planned == sorted(ENGINES[:2])
    assert record.warnings == ["shard 1: the machine was busy", "shard 2: the machine was busy"]
    assert record.fingerprint == one.fingerprint
    text = markdown_summary(record)
    assert "It holds shards 1, 2 of 2 of one session." in text
    assert "- shard 2: run `run-2` on `epyc-2c-0a1b2c3d`" in text


def test_verdicts_are_recomputed_each_from_its_own_shard(tmp_path):
    """Both raced at one workload, each beside a reference of its own."""
    record = load_record(save_record(merged(shard(1), shard(2)), tmp_path))
    outcomes = recompute_verdicts(record)
    assert len(outcomes) == 3
    assert all(outcome.agrees for outcome in outcomes), [outcome.problem for outcome in outcomes]
    explained = [outcome.again.explanation for outcome in outcomes if outcome.again]
    assert explained == [outcome.stored.explanation for outcome in outcomes]


def test_a_reference_that_scored_otherwise_is_kept_with_its_shard():
    one, two = shard(1), shard(2)
    record = merged(one, two)
    for part in (one, two):
        (engine, *_) = [verdict.engine for verdict in part.verdicts]
        ours = [entry for entry in beside(record, engine).quality if entry.engine == REFERENCE]
        assert ours == [entry for entry in part.quality if entry.engine == REFERENCE]
    assert record.shards is not None
    assert [len(each.quality) for each in record.shards.held] == [0, 1]


def test_an_engine_is_as_the_shard_has_it_that_tests_it():
    """Elsewhere it may have been loaded as a reference."""
    one, two = shard(1), shard(2)
    tested = ENGINES[1]
    as_reference = engine_entry(tested, "reference").model_copy(update={"build_seconds": 0.0})
    one = one.model_copy(
        update={
            "engines": [as_reference, *one.engines],
            "quality": [quality_entry(tested, bleu=1.0), *one.quality],
            "memory": [memory_entry(tested, peak=1), *one.memory],
        }
    )
    record = merged(one, two)
    assert next(entry for entry in record.engines if entry.id == tested).role == "candidate"
    assert next(entry for entry in record.memory if entry.engine == tested).peak > 1
    (own,) = [
        entry for entry in beside(record, ENGINES[0]).quality if (entry.engine, entry.metric) == (tested, "cloze")
    ]
    assert own == one.quality[0]


def shards_of(record: RunRecord, **changes: Any) -> ShardsEntry:
    assert record.shards is not None
    return record.shards.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"commit": "0000000"}, "the commit differs: 486177f and 0000000"),
        ({"commit": ""}, "the commit differs: 486177f and none"),
        ({"enginegate": "0.2.0"}, "the version of enginegate differs: 0.1.0 and 0.2.0"),
        ({"config": {"gates": {"alpha": 0.05}}}, "the configuration differs: gates: none and {'alpha': 0.05}"),
        ({"installed": ["torch==2.5.0"]}, "what is installed differs: torch: 2.4.0 and 2.5.0"),
        ({"shards": shards_of(shard(2), plan="q" * 16)}, "what the whole session tests"),
        ({"shards": shards_of(shard(2, 3))}, "the number of shards differs: 2 and 3"),
        ({"shards": shards_of(shard(2), models=[MODEL, "other"])}, "the models differs"),
        ({"shards": None}, "run run-2 is no shard of a session"),
        ({"id": "again"}, "run again is merged already"),
        ({"shards": shard(1).shards, "id": "run-1"}, "shard 1 of 2: run run-1 is named twice"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, said):
    with pytest.raises(RecordError) as caught:
        merge_shards([shard(1), shard(2, **changes)], "merged")
    assert said in caught.value.problem
    assert caught.value.hint


def test_another_checkpoint_or_base_is_refused():
    two = shard(2)
    other = two.model_copy(update={"model": two.model.model_copy(update={"digest": "e" * 64})})
    with pytest.raises(RecordError, match="the checkpoint differs"):
        merge_shards([shard(1), other], "merged")
    one = shard(1, shards=shards_of(shard(1), base="abc"))
    assert merged(one, two).shards.base == "abc", "a shard whose base was never asked for"
    with pytest.raises(RecordError, match="the commit of the base differs: abc and def"):
        merge_shards([one, shard(2, shards=shards_of(two, base="def"))], "merged")


def test_two_attempts_at_one_shard_are_refused():
    again = shard(
        2, id="again", shards=shards_of(shard(2), held=[ShardRun(number=2, run="again", started="", machine="m")])
    )
    with pytest.raises(RecordError, match="shard 2 of 2: runs run-2 and again are both it"):
        merge_shards([shard(1), shard(2), again], "merged")


def test_a_missing_shard_makes_a_partial_record_and_an_empty_one_does_not(tmp_path):
    record = load_record(save_record(merged(shard(1)), tmp_path))
    assert record.status == "partial"
    assert missing_shards(record) == [2]
    assert f"shard 2 is missing, with {ENGINES[1]}" in record.warnings
    assert "Not all of the session is here" in markdown_summary(record)
    assert all(outcome.agrees for outcome in recompute_verdicts(record))
    whole = merged(*(shard(number, 5) for number in (1, 2, 3)))
    assert whole.status == "complete"
    assert str(whole.shards) == "shards 1, 2, 3 of 5 (4, 5 without engines)"
    record = merged(shard(1), shard(2, status="partial"))
    assert record.status == "partial"
    assert "shard 2 did not come to its end, or has tests without a verdict: run run-2" in record.warnings


def test_speed_and_quality_are_taken_together_anew():
    two = shard(2)
    failed = verdict_entry(ENGINES[1], None, "FAIL", metric="perplexity", inputs={"gate": "nll"})
    stale = [JointEntry(engine=ENGINES[1], status="PASS", explanation="stale")]
    record = merged(shard(1), two.model_copy(update={"verdicts": [*two.verdicts, failed], "joint": stale}))
    found = {entry.engine: entry for entry in record.joint}
    assert found[ENGINES[1]].status == "FAIL"
    assert "its speed PASS is withdrawn" in found[ENGINES[1]].explanation


def elsewhere(record: RunRecord, key: str = "xeon-2c-00000000") -> RunRecord:
    (held,) = shards_of(record).held
    return record.model_copy(
        update={
            "fingerprint": record.fingerprint.model_copy(update={"key": key}),
            "shards": shards_of(record, held=[held.model_copy(update={"machine": key})]),
        }
    )


def test_shards_of_two_machines_are_one_record_of_no_machine(tmp_path):
    one, two = shard(1), elsewhere(shard(2))
    for part in (one, two):
        save_record(part, tmp_path / "runs")
    record = load_record(save_record(merged(one, two), tmp_path / "runs"))
    assert record.status == "complete"
    assert record.fingerprint.key.startswith("2-machines-")
    assert record.machines == [one.fingerprint.key, two.fingerprint.key]
    assert "2 kinds of machine (epyc-2c-0a1b2c3d, xeon-2c-00000000): each verdict" in record.warnings[0]
    with pytest.raises(BaselineError, match="2 kinds of machine") as caught:
        apply_accept(record, tmp_path / "baselines", force=True)
    assert caught.value.hint == "accept its shards instead: `enginegate accept run-1` and `enginegate accept run-2`"
    assert not (tmp_path / "baselines").exists()
    for part in (one, two):
        assert apply_accept(part, tmp_path / "baselines")


def test_a_session_is_accepted_once_merged_or_by_its_shards(tmp_path):
    one, two = shard(1), shard(2)
    record = merged(one, two)
    apply_accept(record, tmp_path)
    kept = read_perf(tmp_path, record.fingerprint.key, MODEL, WORK)
    assert {name: [each.provenance.run for each in engine.sessions] for name, engine in kept.engines.items()} == {
        ENGINES[0]: ["run-1"],
        ENGINES[1]: ["run-2"],
        ENGINES[2]: ["run-1"],
    }
    for part in (one, two, record):
        with pytest.raises(BaselineError, match="was accepted before"):
            apply_accept(part, tmp_path)
    other = tmp_path / "other"
    apply_accept(one, other)
    apply_accept(two, other)
    for path in sorted(tmp_path.glob("perf/*/*/*.json")):
        assert path.read_bytes() == (other / path.relative_to(tmp_path)).read_bytes()


def test_references_of_two_precisions_are_no_baseline(tmp_path):
    two = shard(2)
    arenas = [arena.model_copy(update={"reference": ENGINES[1], "contestants": [ENGINES[1]]}) for arena in two.arenas]
    record = merged(shard(1), two.model_copy(update={"arenas": arenas, "verdicts": []}))
    with pytest.raises(BaselineError, match="its shards had different references"):
        apply_accept(record, tmp_path)


def test_a_session_of_two_models_is_merged_model_by_model():
    def of(model: str, number: int) -> RunRecord:
        record = shard(number)
        (held,) = shards_of(record).held
        run = f"{record.id}-{model}"
        return record.model_copy(
            update={
                "id": run,
                "model": record.model.model_copy(update={"name": model}),
                "shards": shards_of(record, models=["a", "b"], held=[held.model_copy(update={"run": run})]),
            }
        )

    records = merge_shards([of("b", 2), of("a", 1), of("b", 1), of("a", 2)], "merged")
    assert [(record.id, record.status) for record in records] == [("merged-a", "complete"), ("merged-b", "complete")]
    (alone,) = merge_shards([of("a", 1), of("a", 2)], "merged")
    assert alone.status == "complete"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda shards: shards["held"][0].update(number=3), "it holds shard 3 of 2"),
        (lambda shards: shards["held"].append(dict(shards["held"][0])), "shard 1 is there twice"),
        (lambda shards: shards["engines"].append(shards["engines"][0]), f"engine {ENGINES[0]} is there twice"),
        (lambda shards: shards["held"].clear(), "held"),
        (lambda shards: shards["held"][0].update(number=0), "number"),
    ],
)
def test_damaged_shards_are_refused_when_they_are_read(tmp_path, change, said):
    path = save_record(merged(shard(1), shard(2)), tmp_path)
    content = json.loads(path.read_text())
    change(content["shards"])
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=said):
        load_record(path)


def test_an_engine_that_raced_in_two_shards_is_refused_when_it_is_read(tmp_path):
    one = shard(1)
    record = merged(one, shard(2))
    with pytest.raises(RecordError, match=f"in a race, {ENGINES[0]} at b1-i64-o64 is there twice"):
        load_record(save_record(record.model_copy(update={"arenas": [*record.arenas, one.arenas[0]]}), tmp_path))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("enginegate.report.plot.save_plot", lambda *_: None)
    for number in (1, 2):
        save_record(shard(number), tmp_path / "runs")
    return tmp_path / "runs"


def newest(runs: Path) -> RunRecord:
    (path,) = [path for path in runs.glob("*/run.json") if not path.parent.name.startswith("run-")]
    return load_record(path)


def test_the_command_writes_what_a_session_writes(runs, capsys):
    assert main(["merge", "run-1", str(runs / "run-2" / "run.json"), "--runs", str(runs)]) == 0
    out = capsys.readouterr().out
    record = newest(runs)
    assert f"complete run {record.id}, shards 1, 2 of 2: {runs / record.id}" in out
    assert "warning: shard 1: the machine was busy" in out
    assert {path.name for path in (runs / record.id).iterdir()} == {"run.json", "benchmark_results.csv", "summary.md"}
    assert main(["report", str(runs / record.id), "--verdicts"]) == 0
    assert "3 of 3 verdicts recomputed" in capsys.readouterr().out
    assert main(["compare", str(runs / "run-1"), str(runs / record.id)]) == 2
    assert "are one session" in capsys.readouterr().err


def test_the_command_keeps_the_texts_of_all_shards(runs, capsys):
    said = TextEntry(text="It is up", tokens=[1, 2, 3], ends=[2, 5, 8])
    for number in (1, 2):
        texts = AnswersEntry(prompts={"item0": "The sun?"}, answers={"item0": said}, references={"item0": said})
        wrote = [
            entry.model_copy(update={"texts": texts}) if entry.metric == "similarity" else entry
            for entry in shard(number).quality
        ]
        save_record(shard(number).model_copy(update={"quality": wrote}), runs)
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 0
    folder = runs / newest(runs).id
    assert load_texts(folder).metrics["similarity"].answers.keys() >= set(ENGINES)
    (runs / "run-1" / "texts.json").write_text("{", encoding="utf-8")
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 2
    assert "remove it: records and verdicts need it for nothing" in capsys.readouterr().err
    (runs / "run-1" / "texts.json").unlink()
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 0


def test_the_command_ends_as_a_session_does(runs, capsys):
    assert main(["merge", "run-1", "--runs", str(runs), "--json"]) == 3
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert (told["status"], told["missing"], told["machines"]) == ("partial", [2], ["epyc-2c-0a1b2c3d"])
    failed = shard(2).model_copy(update={"verdicts": [verdict_entry(ENGINES[1], status="FAIL", accepted=False)]})
    save_record(failed, runs)
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 1
    save_record(shard(2, commit="0000000"), runs)
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 2
    assert "hint: merge the shards of one commit" in capsys.readouterr().err
    assert main(["merge", "nowhere", "--runs", str(runs)]) == 2


def test_the_command_says_which_models_are_missing(runs, capsys):
    save_record(shard(1, shards=shards_of(shard(1), models=[MODEL, "other"])), runs)
    save_record(shard(2, shards=shards_of(shard(2), models=[MODEL, "other"])), runs)
    assert main(["merge", "run-1", "run-2", "--runs", str(runs)]) == 3
    assert "no run of other was named, which the session tests" in capsys.readouterr().err
