"""Several engines of one backend and precision in one session; what a baseline says of the builds it came from."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import enginegate.machine.fingerprint
import enginegate.plan.plan
import yaml
from enginegate.cli import main
from workspace import CONFIG

pytest_plugins = ["pytester"]
SPEED = ("tests_perf/test_speedup.py", "--batch-size=1")
PLAIN, SLOW, TWO = "toy-fake-int8_wo", "toy-fake-int8_wo@slow", "toy-fake-fp32@tp2"


def with_variants(suite) -> Path:
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"] = {
        "precisions": ["int8_wo", "int8_wo@slow", "fp32@tp2"],
        "variants": {"slow": {"runtime": {"slower": 1.3}}, "tp2": {"tensor_parallel": 2}},
    }
    config["floors"] = {"fake": {"int8_wo": {"speedup": {"b1": 1.5}}, "int8_wo@slow": {"speedup": {"b1": 9.0}}}}
    path = suite.workspace.folder / f"{suite.folder.name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_variants_of_one_engine_race_in_one_arena_and_are_stored_side_by_side(suite):
    """They used to have one name, so that the second was taken for the first, or for the reference itself."""
    config = with_variants(suite)
    only = ("--batch-size=1", "-k", "not memory_law")  # of which the fake has none
    result = suite.run("tests_perf/test_speedup.py", "tests_perf/test_memory.py", *only, config=config)
    outcomes = result.parseoutcomes()
    assert "skipped" not in outcomes, "an engine over two devices is not the reference itself"
    record = suite.record()
    (arena,) = record.arenas
    assert arena.contestants == ["toy-fake-fp32", PLAIN, SLOW, TWO]
    for block in arena.blocks:
        places = {turn.engine: place for place, turn in enumerate(block.rounds)}
        assert abs(places[PLAIN] - places[SLOW]) == abs(places[TWO] - places["toy-fake-fp32"]) == 1, (
            "next to each other"
        )
    engines = {engine.id: engine for engine in record.engines}
    assert {engines[PLAIN].variant, engines[SLOW].variant} == {"", "slow"}
    assert engines[PLAIN].runtime_digest != engines[SLOW].runtime_digest
    assert engines[PLAIN].key == engines[SLOW].key, "one build, loaded in two ways"
    assert engines[TWO].key != engines["toy-fake-fp32"].key
    assert (engines[TWO].spec["tensor_parallel"], engines["toy-fake-fp32"].spec["tensor_parallel"]) == (2, 1)
    verdicts = {entry.engine: entry for entry in record.verdicts if entry.metric == "speedup"}
    assert verdicts[PLAIN].estimate > 1.2 * verdicts[SLOW].estimate
    assert (verdicts[PLAIN].status, verdicts[SLOW].status) == ("PASS", "FAIL"), "floors are each one's own"
    assert "int8_wo@slow b1" in verdicts[SLOW].explanation
    root = suite.folder / "baselines"
    assert main(["accept", str(suite.folder / "runs" / record.id), "--baselines", str(root), "--force"]) == 0
    (file,) = root.rglob("b1-*.json")
    stored = json.loads(file.read_text())["engines"]
    assert set(stored) == {PLAIN, SLOW, TWO}
    for name, engine in stored.items():
        assert engine["sessions"][0]["key"] == engines[name].key
        assert engine["sessions"][0]["runtime_digest"] == engines[name].runtime_digest


def test_a_variant_that_the_configuration_lacks_is_named(suite):
    result = suite.run(*SPEED, "--precision=int8_wo@fast", config=with_variants(suite))
    result.stderr.fnmatch_lines(["*there is no variant 'fast' under variants; known: slow, tp2*"])


def test_a_baseline_taken_with_other_settings_is_no_baseline_of_this_engine(suite, accepted):
    """It was: whatever an engine was loaded with, its name decided what judged it."""
    suite.take_baselines(accepted)
    config = copy.deepcopy(CONFIG)
    config["engines"]["fake"] = {"precisions": ["int8_wo"], "runtime": {"slower": 1.01}}
    path = suite.workspace.folder / f"{suite.folder.name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = suite.run("tests_perf", "tests_quality/test_perplexity.py", "--batch-size=1", config=path)
    output = result.stdout.str()
    for what in ("speed baseline of", "memory baseline of"):
        assert f"the {what} toy-fake-int8_wo was taken with other runtime settings than this run's" in output
    assert "the baseline of toy-fake-int8_wo in perplexity was taken with other runtime settings" in output
    assert not [verdict for verdict in suite.record().verdicts if verdict.metric in ("speedup", "perplexity")]


def test_libraries_that_changed_since_the_baseline_are_told(suite, accepted, monkeypatch):
    """The warning never came: it asked for libraries where the baseline kept what the backends state."""
    suite.take_baselines(accepted)
    now = {**accepted.record.fingerprint.context["libraries"], "numpy": "0.1"}
    monkeypatch.setattr(enginegate.machine.fingerprint, "library_versions", lambda: now)
    suite.run(*SPEED, "--precision=int8_wo")
    (verdict,) = suite.record().verdicts
    (told,) = [line for line in verdict.warnings if "the baseline was taken with" in line]
    assert told.endswith("this run with 0.1")
    assert "numpy" in told


def test_unchanged_libraries_are_not_told(suite, accepted, monkeypatch):
    suite.take_baselines(accepted)
    now = accepted.record.fingerprint.context["libraries"]  # other tests of this process may bring fakes of some
    monkeypatch.setattr(enginegate.machine.fingerprint, "library_versions", lambda: now)
    suite.run(*SPEED, "--precision=int8_wo")
    (verdict,) = suite.record().verdicts
    assert not any("the baseline was taken with" in line for line in verdict.warnings)


def test_baselines_are_read_once_when_the_session_is_planned(suite, accepted, monkeypatch):
    """Every test used to read them again, for every engine of its arena."""
    suite.take_baselines(accepted)
    read, read_perf = [], enginegate.plan.plan.read_perf
    monkeypatch.setattr(enginegate.plan.plan, "read_perf", lambda *place: read.append(place[-1]) or read_perf(*place))
    result = suite.run("tests_perf/test_speedup.py", "tests_perf/test_latency.py")
    assert result.parseoutcomes()["passed"] >= 6
    assert sorted(read) == ["b1-i16-o8", "b2-i16-o8"]


def test_collecting_reads_no_baseline(suite, accepted, monkeypatch):
    suite.take_baselines(accepted)
    monkeypatch.setattr(enginegate.plan.plan, "read_perf", lambda *_: (_ for _ in ()).throw(AssertionError))
    suite.run("tests_perf", "--collect-only", "-q").assert_outcomes()
