from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from enginegate.core.errors import BaselineError
from enginegate.core.identity import runtime_digest
from enginegate.core.records import EngineEntry, RunRecord
from enginegate.core.technique_records import TechniqueEntry
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import Baseline
from enginegate.gates.speed import replay_speed
from enginegate.storage.accept import apply_accept, plan_accept
from enginegate.storage.baselines import (
    MAX_SESSIONS,
    PerfBaseline,
    QualityBaseline,
    perf_path,
    quality_path,
    read_perf,
    read_quality,
    same_method,
)
from enginegate.storage.levels import Level
from enginegate.storage.summary import paired_log_ratios
from enginegate.verdicts.lookup import pick

from tests_harness.storage.factory import (
    MODEL,
    REFERENCE,
    arena_entry,
    engine_entry,
    gated_record,
    memory_entry,
    quality_entry,
    run_record,
    verdict_entry,
)

INT8 = "tiny-8m-openvino-int8_wo"
WORKLOAD = "b8-i64-o64"


def perf(root: Path, record: RunRecord, **changes: str) -> PerfBaseline | None:
    asked: dict[str, Any] = {
        "fingerprint": record.fingerprint.key,
        "model": MODEL,
        "digest": record.model.digest,
        "workload": WORKLOAD,
        "reference": REFERENCE,
    }
    asked |= changes
    baseline = read_perf(root, asked["fingerprint"], asked["model"], asked["workload"])
    if baseline is not None:
        baseline.check(asked["digest"], asked["reference"])
    return baseline


def load_quality(root: Path, model: str, digest: str, engine: EngineEntry) -> QualityBaseline | None:
    baseline = read_quality(root, model, engine)
    if baseline is not None:
        baseline.check(digest, record="")
    return baseline


def test_reference_that_was_gated_as_well_is_accepted_as_well(tmp_path: Path) -> None:
    record = run_record("a")
    both = [engine.model_copy(update={"role": "reference"}) for engine in record.engines]
    ungated = record.model_copy(update={"engines": both, "verdicts": []})
    assert not any(change.metric.endswith("_memory") for change in plan_accept(ungated, tmp_path))
    verdicts = [gated_record(2.0).verdicts[0].model_copy(update={"engine": INT8})]
    changes = list(plan_accept(ungated.model_copy(update={"verdicts": verdicts}), tmp_path))
    assert {change.engine for change in changes if change.metric.endswith("_memory")} == {INT8}


def test_a_run_of_memory_alone_joins_what_was_accepted(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    timed = perf(tmp_path, run_record())
    assert timed is not None
    candidates = [engine for engine in run_record().engines if engine.role == "candidate"]
    alone = run_record("b").model_copy(update={"engines": candidates, "arenas": [], "quality": []})
    apply_accept(alone, tmp_path)
    both = perf(tmp_path, run_record())
    assert both is not None
    assert both.engines[INT8].sessions == timed.engines[INT8].sessions
    assert both.engines[INT8].memory is not None
    assert both.engines[INT8].memory.provenance.run == "b"


def test_nothing_accepted_is_none(tmp_path: Path) -> None:
    assert perf(tmp_path, run_record()) is None
    assert load_quality(tmp_path, MODEL, "d" * 64, engine_entry(INT8)) is None


def test_accepting_writes_what_a_gate_then_reads(tmp_path: Path) -> None:
    record = run_record()
    written = apply_accept(record, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in written) == [
        "perf/epyc-2c-0a1b2c3d/tiny-8m/b1-i64-o64.json",
        "perf/epyc-2c-0a1b2c3d/tiny-8m/b8-i64-o64.json",
        "quality/tiny-8m/openvino-bf16.json",
        "quality/tiny-8m/openvino-int4_awq.json",
        "quality/tiny-8m/openvino-int8_wo.json",
    ]
    baseline = perf(tmp_path, record)
    assert baseline is not None
    engine = baseline.engines[INT8]
    (ratios,) = engine.log_ratios("speedup")
    assert len(ratios) == 16
    assert all(round(value, 5) == value for value in ratios)
    assert sum(ratios) / 16 == pytest.approx(math.log(2.5), abs=0.02)
    assert set(engine.sessions[0].log_ratios) == {"speedup", "ttft", "itl"}
    assert engine.orders("speedup") == [[1, -1] * 8], "the order of each block is kept beside its ratio"
    assert engine.memory is not None
    assert engine.memory.peak == 600 * 2**20
    assert engine.sessions[0].provenance.versions["reference"] == "hf 5.5.4"
    assert REFERENCE not in baseline.engines
    quality = load_quality(tmp_path, MODEL, record.model.digest, engine_entry(INT8))
    assert quality is not None
    metric = quality.metric("cloze", "cloze/1;prefix=none;items=8")
    assert metric is not None
    assert metric.items["item1"] == [1.0, 1.0, 0.0, 0.0, 0.5, 0.5]
    assert quality.metric("letters", "letters/1;items=8") is None


def test_who_left_the_race_is_not_accepted(tmp_path: Path) -> None:
    record = run_record(quality=False, memory=[])
    arenas = [
        arena.model_copy(
            update={
                "contestants": [name for name in arena.contestants if name != INT8],
                "failures": {INT8: "it fell over"},
            }
        )
        for arena in record.arenas
    ]
    apply_accept(record.model_copy(update={"arenas": arenas}), tmp_path)
    baseline = perf(tmp_path, record)
    assert baseline is not None
    assert sorted(baseline.engines) == ["tiny-8m-openvino-bf16", "tiny-8m-openvino-int4_awq"]


def test_what_has_no_stored_baseline_is_named(tmp_path: Path) -> None:
    technique = TechniqueEntry(technique="prefix_off", engine=INT8, load="", with_="", without="", on=[], off=[])
    record = run_record(quality=False, memory=[], arenas=[], verdicts=[])
    with pytest.raises(BaselineError, match="measured nothing"):
        apply_accept(record, tmp_path)
    with pytest.raises(BaselineError, match="measured techniques alone, which have no stored baseline"):
        apply_accept(record.model_copy(update={"techniques": [technique]}), tmp_path)


def test_the_plan_writes_nothing_and_says_what_moves(tmp_path: Path) -> None:
    first = plan_accept(run_record("a"), tmp_path)
    assert not list(tmp_path.iterdir())
    assert {change.old for change in first} == {None}
    apply_accept(run_record("a"), tmp_path)
    faster = run_record("b", {INT8: 2.75}, memory=[memory_entry(INT8, WORKLOAD, peak=660 * 2**20)])
    moved = {(change.engine, change.workload, change.metric): change for change in plan_accept(faster, tmp_path)}
    speedup = moved[INT8, WORKLOAD, "speedup"]
    assert speedup.percent == pytest.approx(10, abs=2)
    assert "session 2 of at most 10" in speedup.note
    assert moved[INT8, WORKLOAD, "peak_memory"].percent == pytest.approx(10)
    assert moved[INT8, "", "cloze.accuracy_norm"].percent == 0


def test_sessions_append_and_the_oldest_leave(tmp_path: Path) -> None:
    for number in range(MAX_SESSIONS + 2):
        apply_accept(run_record(f"run{number}", {INT8: 2.5}, seed=number, quality=False), tmp_path)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    runs = [session.provenance.run for session in baseline.engines[INT8].sessions]
    assert runs == [f"run{number}" for number in range(2, MAX_SESSIONS + 2)]


def test_an_engine_that_did_not_run_keeps_its_sessions(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    apply_accept(run_record("b", {INT8: 2.5}), tmp_path)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    assert {name: len(engine.sessions) for name, engine in baseline.engines.items()} == {
        "tiny-8m-openvino-bf16": 1, INT8: 2, "tiny-8m-openvino-int4_awq": 1,
    }  # fmt: skip


def test_a_run_counts_once(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    with pytest.raises(BaselineError, match="was accepted before"):
        apply_accept(run_record("a"), tmp_path, force=True)


def test_accepting_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    record = run_record("a")
    written = apply_accept(record, tmp_path)
    written[1].unlink()
    assert apply_accept(record, tmp_path) == [written[1]]
    baseline = perf(tmp_path, record)
    assert baseline is not None
    assert len(baseline.engines[INT8].sessions) == 1


def test_quality_replaces_metric_by_metric_and_tells_items(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    later = run_record("b", {INT8: 2.5}, batch_sizes=[], quality=False)
    later = later.model_copy(update={"quality": [quality_entry(INT8, "cloze", items=10, accuracy_norm=0.9)]})
    changes = {change.metric: change for change in plan_accept(later, tmp_path)}
    assert changes["cloze.accuracy_norm"].note == "10 items, 2 added, 0 removed"
    apply_accept(later, tmp_path)
    quality = load_quality(tmp_path, MODEL, later.model.digest, engine_entry(INT8))
    assert quality is not None
    assert len(quality.metrics["cloze"].items) == 10
    assert len(quality.metrics["perplexity"].items) == 8
    assert quality.runs == {"a", "b"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "partial"}, "partial"),
        ({"verdicts": [verdict_entry(INT8, status="FAIL")]}, "1 failed verdict"),
    ],
)
def test_a_bad_run_needs_force(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    record = run_record(**changes)
    with pytest.raises(BaselineError, match=reason) as caught:
        apply_accept(record, tmp_path)
    assert "--force" in caught.value.hint
    assert not list(tmp_path.iterdir())
    assert apply_accept(record, tmp_path, force=True)


def test_an_empty_or_too_short_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="measured nothing"):
        plan_accept(run_record(batch_sizes=[], quality=False), tmp_path)
    with pytest.raises(BaselineError, match="3 blocks"):
        plan_accept(run_record(arenas=[arena_entry(blocks=3)]), tmp_path)


def test_what_a_reference_took_is_no_part_of_a_baseline(tmp_path: Path) -> None:
    changes = plan_accept(run_record(memory=[memory_entry("tiny-8m-openvino-fp32")]), tmp_path)
    assert changes
    assert not [change for change in changes if change.engine == "tiny-8m-openvino-fp32"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"digest": "e" * 64}, "of model digest"),
        ({"reference": "tiny-8m-hf-fp32"}, "of reference tiny-8m-hf-bf16, this run's is tiny-8m-hf-fp32"),
    ],
)
def test_a_foreign_perf_baseline_fails_closed(tmp_path: Path, asked: dict[str, str], reason: str) -> None:
    record = run_record()
    apply_accept(record, tmp_path)
    with pytest.raises(BaselineError, match=reason) as caught:
        perf(tmp_path, record, **asked)
    assert "enginegate accept" in caught.value.hint


def test_a_baseline_moved_to_another_machines_folder_is_refused(tmp_path: Path) -> None:
    record = run_record()
    apply_accept(record, tmp_path)
    elsewhere = perf_path(tmp_path, "other-4c-11111111", MODEL, WORKLOAD)
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(perf_path(tmp_path, record.fingerprint.key, MODEL, WORKLOAD).read_bytes())
    with pytest.raises(BaselineError, match="of fingerprint epyc"):
        perf(tmp_path, record, fingerprint="other-4c-11111111")


def test_a_stale_metric_and_a_foreign_checkpoint_are_refused(tmp_path: Path) -> None:
    record = run_record()
    apply_accept(record, tmp_path)
    quality = load_quality(tmp_path, MODEL, record.model.digest, engine_entry(INT8))
    assert quality is not None
    assert quality.metric("cloze", "cloze/1;prefix=none;items=another-set") is not None
    for version in ("cloze/3;prefix=none;items=8", "cloze/1;prefix=other;items=8", "unversioned"):
        with pytest.raises(BaselineError, match="version"):
            quality.metric("cloze", version)
    with pytest.raises(BaselineError, match="model digest"):
        load_quality(tmp_path, MODEL, "e" * 64, engine_entry(INT8))


def test_what_was_accepted_before_ties_were_shared_judges_on_but_for_its_own_ties(tmp_path: Path) -> None:
    record = run_record()
    apply_accept(record, tmp_path)
    quality = load_quality(tmp_path, MODEL, record.model.digest, engine_entry(INT8))
    assert quality is not None
    tied = quality_entry(INT8, revision=2)
    stored = quality.metric("cloze", tied.version)
    assert stored is not None
    assert len(pick(stored, ["acc_norm"], tied)) == 8
    # One question with two best choices, the first of which was taken: was the right one among them? Nobody knows.
    old = stored.model_copy(update={"items": stored.items | {"item1": [*stored.items["item1"][:5], 0.0]}})
    assert pick(old, ["acc_norm"], tied).keys() == old.items.keys() - {"item1"}
    assert pick(old, ["tied_norm"], tied) == {item: [1.0] for item in old.items if item != "item1"}
    assert pick(old, ["acc"], tied).keys() == old.items.keys(), "by their sums it does not tie"
    assert pick(tied, ["acc_norm"], old).keys() == old.items.keys() - {"item1"}, "whichever of the two is older"
    for other in (None, quality_entry(INT8), quality_entry(INT8, "perplexity", revision=2)):
        assert pick(old, ["acc_norm"], other).keys() == old.items.keys()
    assert not same_method("perplexity/1;items=8", "perplexity/2;items=8"), "no business of other metrics"


def test_part_of_a_credit_is_that_of_a_tie(tmp_path: Path) -> None:
    apply_accept(run_record(), tmp_path)
    path = quality_path(tmp_path, MODEL, engine_entry(INT8))
    content = json.loads(path.read_text())
    row = content["metrics"]["cloze"]["items"]["item1"]
    row[1], row[5] = 0.3333333, 0.0
    path.write_text(json.dumps(content))
    assert read_quality(tmp_path, MODEL, engine_entry(INT8)) is not None
    row[5] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(BaselineError, match=r"acc_norm of item item1 is 0.333333, neither right nor wrong, and no"):
        read_quality(tmp_path, MODEL, engine_entry(INT8))


def test_damaged_baselines_are_refused_and_can_be_replaced(tmp_path: Path) -> None:
    record = run_record("a")
    apply_accept(record, tmp_path)
    path = quality_path(tmp_path, MODEL, engine_entry(INT8))
    good = json.loads(path.read_text())
    cases = {
        "not valid JSON": path.read_text()[:-40],
        "schema version 7": json.dumps(good | {"schema_version": 7}),
        "not a baseline": json.dumps([1]),
        "damaged: surprise": json.dumps(good | {"surprise": 1}),
    }
    for reason, text in cases.items():
        path.write_text(text)
        with pytest.raises(BaselineError, match=reason) as caught:
            load_quality(tmp_path, MODEL, record.model.digest, engine_entry(INT8))
        assert "enginegate accept" in caught.value.hint
    notes = {change.note for change in plan_accept(run_record("b"), tmp_path) if change.path == path}
    assert all(note.startswith("replaces: ") for note in notes)
    kept = path.read_text()
    with pytest.raises(BaselineError, match=r"would be replaced, with all that was accepted before .*surprise"):
        apply_accept(run_record("b"), tmp_path)
    assert path.read_text() == kept
    apply_accept(run_record("b"), tmp_path, force=True)
    assert load_quality(tmp_path, MODEL, record.model.digest, engine_entry(INT8)) is not None


def test_a_run_is_not_its_own_baseline(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    baseline = perf(tmp_path, run_record())
    quality = load_quality(tmp_path, MODEL, "d" * 64, engine_entry(INT8))
    assert baseline is not None
    assert quality is not None
    baseline.check("d" * 64, REFERENCE, record="b")
    quality.check("d" * 64, record="b")
    with pytest.raises(BaselineError, match="part of the baseline"):
        baseline.check("d" * 64, REFERENCE, record="a")
    with pytest.raises(BaselineError, match="part of the baseline"):
        quality.check("d" * 64, record="a")


def test_a_changed_library_is_told(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    libraries = run_record().fingerprint.context["libraries"]
    assert libraries
    assert baseline.version_changes(INT8, {"reference": "hf 5.5.4"}, libraries) == []
    name, version = next(iter(libraries.items()))
    (sentence,) = baseline.version_changes(INT8, {}, libraries | {name: "99.9"})
    assert sentence == f"the baseline was taken with {name} {version}, this run with 99.9"


def test_a_baseline_without_libraries_is_compared_by_what_the_backends_state(tmp_path: Path) -> None:
    apply_accept(run_record("a"), tmp_path)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    (session,) = baseline.engines[INT8].sessions
    old = session.provenance.model_copy(update={"libraries": {}})
    assert old.changes({"reference": "hf 5.5.4", "engine": "openvino 2026.4.1"}, {"torch": "3"}) == []
    (sentence,) = old.changes({"reference": "hf 6.0", "engine": "openvino 2026.4.1"}, {"torch": "3"})
    assert sentence == "the baseline was taken with reference: hf 5.5.4, this run with hf 6.0"


def accepted_sessions(root: Path, speedups: list[float], **how: Any) -> None:
    for number, speedup in enumerate(speedups):
        arenas = [arena_entry(8, {INT8: speedup}, blocks=40, noise=0.03, seed=number)]
        record = run_record(f"run{number}", arenas=arenas, memory=[], quality=False, engines=ENGINES)
        apply_accept(record, root, **how)


ENGINES = [engine_entry(REFERENCE, "reference"), engine_entry(INT8)]


@pytest.mark.parametrize("last", [2.25, 2.75])
def test_a_level_that_moved_does_not_join_the_old_one_silently(tmp_path: Path, last: float) -> None:
    """It used to: nine sessions and one 10 % slower, or faster, left a loss of 15 % INCONCLUSIVE."""
    accepted_sessions(tmp_path, [2.5] * 9)
    before = perf_path(tmp_path, run_record().fingerprint.key, MODEL, WORKLOAD).read_text()
    arenas = [arena_entry(8, {INT8: last}, blocks=40, noise=0.03, seed=9)]
    moved = run_record("moved", arenas=arenas, memory=[], quality=False, engines=ENGINES)
    with pytest.raises(
        BaselineError, match=r"(?s)the level moved.*int8_wo at b8-i64-o64: speedup [-+]\d+\.\d %"
    ) as caught:
        apply_accept(moved, tmp_path)
    assert "--replace" in caught.value.hint
    assert "--append" in caught.value.hint
    assert perf_path(tmp_path, run_record().fingerprint.key, MODEL, WORKLOAD).read_text() == before


@pytest.mark.parametrize(
    ("level", "kept", "accepted", "status"), [("replace", 3, 2.25, "FAIL"), ("append", 10, 2.5, "INCONCLUSIVE")]
)
def test_replacing_the_level_keeps_the_gate_seeing(
    tmp_path: Path, level: str, kept: int, accepted: float, status: str
) -> None:
    """A loss of 15 % from the level that counts; two levels in one baseline hide it."""
    accepted_sessions(tmp_path, [2.5] * 9)
    for seed in range(9, 12 if level == "replace" else 10):  # one session alone says nothing of the shift
        arenas = [arena_entry(8, {INT8: 2.25}, blocks=40, noise=0.03, seed=seed)]
        moved = run_record(f"moved{seed}", arenas=arenas, memory=[], quality=False, engines=ENGINES)
        apply_accept(moved, tmp_path, level=Level(level) if seed == 9 else Level.ASK)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    stored = baseline.engines[INT8].log_ratios("speedup")
    assert len(stored) == kept
    slow = arena_entry(8, {INT8: 0.85 * accepted}, blocks=40, noise=0.03, seed=20)
    lost = paired_log_ratios(slow, INT8)["speedup"]
    verdict = replay_speed(lost, Baseline(tuple(map(tuple, stored))), SpeedPolicy(alpha=0.01 / 42))
    assert verdict.status.value == status


def other_engine(**changes: str) -> list[EngineEntry]:
    return [engine_entry(REFERENCE, "reference"), engine_entry(INT8).model_copy(update=changes)]


def test_another_build_is_taken_to_shift_by_nothing(tmp_path: Path) -> None:
    """After one session of the old build a change of 4 % lies within what one session is taken to shift."""
    accepted_sessions(tmp_path, [2.5])
    arenas = [arena_entry(8, {INT8: 2.4}, blocks=40, noise=0.01, seed=9)]
    same = run_record("same", arenas=arenas, memory=[], quality=False, engines=ENGINES)
    rebuilt = same.model_copy(update={"id": "rebuilt", "engines": other_engine(key="another")})
    with pytest.raises(BaselineError, match="another build"):
        apply_accept(rebuilt, tmp_path)
    apply_accept(same, tmp_path)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    assert len(baseline.engines[INT8].sessions) == 2


def test_an_engine_loaded_otherwise_is_another_engine_whatever_its_level(tmp_path: Path) -> None:
    accepted_sessions(tmp_path, [2.5])
    arenas = [arena_entry(8, {INT8: 2.5}, blocks=40, noise=0.03, seed=9)]
    changed = other_engine(runtime_digest=runtime_digest({"kv_precision": "int8"}))
    record = run_record("kv8", arenas=arenas, memory=[], quality=False, engines=changed)
    with pytest.raises(BaselineError, match="int8_wo at b8-i64-o64: other runtime settings"):
        apply_accept(record, tmp_path)
    apply_accept(record, tmp_path, level=Level.REPLACE)
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    (session,) = baseline.engines[INT8].sessions
    assert session.runtime_digest == changed[1].runtime_digest


def test_a_dry_run_says_what_accepting_would_say(tmp_path: Path) -> None:
    """It promised what accepting then refused."""
    accepted_sessions(tmp_path, [2.5] * 3)
    arenas = [arena_entry(8, {INT8: 2.0}, blocks=40, noise=0.03, seed=9)]
    moved = run_record("moved", arenas=arenas, memory=[], quality=False, engines=ENGINES)
    with pytest.raises(BaselineError, match="the level moved"):
        apply_accept(moved, tmp_path, dry_run=True)
    before = perf_path(tmp_path, run_record().fingerprint.key, MODEL, WORKLOAD).read_text()
    assert apply_accept(moved, tmp_path, level=Level.REPLACE, dry_run=True) == []
    assert perf_path(tmp_path, run_record().fingerprint.key, MODEL, WORKLOAD).read_text() == before


def test_sessions_of_one_level_go_on_joining(tmp_path: Path) -> None:
    accepted_sessions(tmp_path, [2.5, 2.51, 2.48, 2.5])
    baseline = perf(tmp_path, run_record())
    assert baseline is not None
    assert len(baseline.engines[INT8].sessions) == 4
    newest = baseline.engines[INT8].sessions[-1]
    assert newest.key == f"key-of-{INT8}"
    assert newest.runtime_digest == runtime_digest({})


def test_memory_alone_is_accepted_and_takes_any_reference(tmp_path: Path) -> None:
    record = run_record(
        "a", arenas=[], quality=False, engines=[engine_entry(INT8)], memory=[memory_entry(INT8, WORKLOAD)]
    )
    apply_accept(record, tmp_path)
    baseline = perf(tmp_path, record)
    assert baseline is not None
    assert baseline.engines[INT8].memory is not None
    assert baseline.engines[INT8].sessions == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b"])
def test_names_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BaselineError, match="cannot name a baseline"):
        perf_path(tmp_path, "key", name, "b1")
