"""Sessions that serve requests over time, against the pretended backend."""

from __future__ import annotations

import csv
import json

import enginegate_fake
import pytest
from enginegate.cli import main
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.storage.runs import load_record
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

pytest_plugins = ["pytester"]

FILE = "tests_perf/test_serving.py"
#: An answer of 8 tokens takes the fake about 20 ms; it takes four at a time.
SERVING = {"rate": 20.0, "requests": 60, "slo": {"ttft": 0.5, "tpot": 0.1, "e2el": None, "share": 0.8}}


def configured(suite, name, **serving):
    return suite.workspace.variant(name, serving={**SERVING, **serving})


def rejudged(record):
    return [judge(restore_inputs(verdict.inputs), record).status.value for verdict in record.verdicts]


def test_serving_is_left_out_until_it_is_asked_for(suite):
    def collected(*args):
        result = suite.run("--collect-only", "-q", "--precision=int8_wo", *args)
        return sum("test_serving.py" in line for line in result.outlines)

    assert collected("tests_perf") == 0
    assert collected("tests_perf", "--serving") == 1
    assert collected("tests_perf", "-m", "serving") == 1
    assert collected(FILE, "--against=git:main") == 5


def test_a_session_serves_judges_and_reports(suite):
    result = suite.run(FILE, "--precision=int8_wo,int4_wo", config=configured(suite, "served"))
    result.assert_outcomes(passed=2)
    record = suite.record()
    assert [verdict.status for verdict in record.verdicts] == ["PASS", "PASS"] == rejudged(record)
    for entry in record.serving:
        (run,) = entry.runs
        assert len(run.due) == 60
        assert (run.begin, run.end) == (6, 54)
        assert run.why_not == []
        assert run.tokens == [8] * 60
    text = result.stdout.str()
    assert "engine under load" in text
    assert "60 requests, poisson at 20/s, 16 tokens in, 8 out; asked: TTFT <= " in text
    folder = suite.folder / "runs" / record.id
    assert "## Serving" in (folder / "summary.md").read_text(encoding="utf-8")
    with (folder / "serving.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Engine"] for row in rows] == ["toy-fake-int8_wo", "toy-fake-int4_wo"]
    assert float(rows[0]["E2EL p50 (ms)"]) > float(rows[0]["TTFT p50 (ms)"]) > 0
    assert load_record(folder / "run.json") == record


def test_a_session_without_serving_writes_none_of_it(suite):
    suite.run("tests_perf/test_build.py", "--precision=int8_wo")
    record = suite.record()
    assert record.serving == []
    folder = suite.folder / "runs" / record.id
    assert not (folder / "serving.csv").exists()
    assert "Serving" not in (folder / "summary.md").read_text(encoding="utf-8")


def test_a_level_that_nobody_meets_fails_and_says_how_many_kept_it(suite):
    config = configured(suite, "strict", slo={"ttft": 1e-6, "tpot": None, "e2el": None, "share": 0.5})
    result = suite.run(FILE, "--precision=int8_wo", config=config)
    result.assert_outcomes(failed=1)
    assert "0 of 48 requests keep TTFT <= 1e-06 s" in result.stdout.str().replace("\n", " ")


def test_too_few_requests_decide_nothing_and_say_how_many_would(suite):
    config = configured(suite, "few", requests=20, slo={"share": 0.99})
    result = suite.run(FILE, "--precision=int8_wo", config=config)
    (verdict,) = suite.record().verdicts
    assert verdict.status == "INCONCLUSIVE"
    assert "459 requests with none late would decide" in verdict.explanation
    assert result.ret == 0
    assert suite.run(FILE, "--precision=int8_wo", "--strict-gates", config=config).ret == 1


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        ("LaggingGenerator", "the load generator lagged: requests were sent 50.00 ms late"),
        ("Miscounting", "Little's law is off by"),
        ("HoldingEndsBack", "TTFT and the gaps between tokens add up to"),
    ],
)
def test_what_cannot_be_believed_is_inconclusive(suite, sabotage, reason):
    suite.prepare(sabotage)
    suite.run(FILE, "--precision=int8_wo", config=configured(suite, "sabotaged"))
    (verdict,) = suite.record().verdicts
    (entry,) = suite.record().serving
    assert verdict.status == "INCONCLUSIVE"
    assert entry.runs[0].why_not[0] in verdict.explanation
    assert any(reason in each for each in entry.runs[0].why_not)
    assert rejudged(suite.record()) == ["INCONCLUSIVE"]


def test_a_batch_that_does_not_batch_fails(suite):
    # four at a time the fake answers about 160 requests a second, one at a time about 50
    config = configured(suite, "batched", rate=120.0, requests=300)
    assert suite.run(FILE, "--precision=int8_wo", config=config).ret == 0
    suite.prepare("OneAtATime")
    result = suite.run(FILE, "--precision=int8_wo", config=config)
    result.assert_outcomes(failed=1)
    assert "requests pile up" in suite.record().verdicts[0].explanation


def test_an_engine_that_dies_under_load_fails_once_and_keeps_its_reason(suite):
    suite.prepare("DyingUnderLoad")
    result = suite.run(FILE, "--precision=int8_wo", config=configured(suite, "dying"))
    assert result.ret == 1
    assert "could not serve 60 requests" in result.stdout.str().replace("\n", " ")
    assert "libfake.so: gone" in result.stdout.str()


def test_an_engine_that_cannot_serve_says_so(suite):
    suite.prepare("NotServing")
    result = suite.run(FILE, "--precision=int8_wo", config=configured(suite, "mute"))
    assert result.ret == 1
    assert "backend fake has no submit" in result.stdout.str().replace("\n", " ")


def test_a_trace_and_lengths_from_files(suite):
    folder = suite.workspace.folder
    rows = [{"time": index / 40, "input_len": 8 + index % 8, "output_len": 2 + index % 6} for index in range(50)]
    (folder / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = suite.workspace.variant("traced", serving={"trace": "trace.jsonl", "slo": {"share": 0.5}})
    assert suite.run(FILE, "--precision=int8_wo", config=config).ret == 0
    (entry,) = suite.record().serving
    assert (entry.load.kind, entry.load.requests, entry.load.source) == ("trace", 50, "trace.jsonl")
    assert entry.runs[0].tokens == [row["output_len"] for row in rows]
    (folder / "lengths.csv").write_text("input_len,output_len\n5,3\n9,6\n", encoding="utf-8")
    config = suite.workspace.variant("lengths", serving={"lengths": "lengths.csv", "rate": 30.0, "slo": {"share": 0.5}})
    assert suite.run(FILE, "--precision=int8_wo", config=config).ret == 0
    assert {*suite.record().serving[0].runs[0].tokens} == {3, 6}


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ({"rate": 0.0}, "serving.rate: Input should be greater than 0, not 0.0"),
        ({"rate": -2.0}, "serving.rate: Input should be greater than 0"),
        ({"requests": 0}, "serving.requests: Input should be greater than 0"),
        ({"arrivals": "posson"}, "serving.arrivals"),
        ({"trace": "nowhere.jsonl"}, "serving.trace: there is no file"),
        ({"trace": "empty.jsonl", "requests": 5}, "trace says when requests come and how long they are; leave out"),
        ({"input_len": 999}, "serving.input_len: 999 tokens are over limits.max_input_len 256"),
        ({"warmup": 0.6, "cooldown": 0.5}, "leave nothing to measure"),
        ({"slo": {"share": 1.0}}, "serving.slo.share: Input should be less than 1"),
        ({"slo": {"p99": 1.0}}, "serving.slo.p99: unknown key"),
    ],
)
def test_configurations_that_cannot_be_used(workspace, serving, said):
    (workspace.folder / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(workspace.variant("bad", serving=serving))
    assert said in error.value.problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '{"time": 0, "input_len": 3, "output_len": 400}\n',
            "request 1 with 400 of 1 are over limits.max_output",
        ),
    ],
)
def test_traces_that_cannot_be_used_fail_their_tests_alone(suite, content, said):
    (suite.workspace.folder / "bad.jsonl").write_text(content, encoding="utf-8")
    config = suite.workspace.variant("bad-trace", serving={"trace": "bad.jsonl"})
    result = suite.run("tests_perf/test_build.py", FILE, "--precision=int8_wo", config=config)
    result.assert_outcomes(errors=1)
    assert "1 error, 2 no baseline" in result.stdout.str()
    assert said in result.stdout.str().replace("\n", " ")


def against(suite, name, **serving):
    """A session beside a live base of the same configuration: fresh processes, in real time."""
    suite.prepare(virtual=False)
    quick = {**SERVING, "requests": 24, "rate": 40.0, "slo": {"ttft": 1.0, "tpot": 0.2, "share": 0.5}, **serving}
    engines = {"fake": {"precisions": ["int8_wo"], "runtime": {"slower": 0.25}}}
    arena = {"foreign_load_limit": 0.99}
    head = suite.workspace.variant(name, serving=quick, arena=arena)
    return head, suite.workspace.variant(f"{name}-base", serving=quick, arena=arena, engines=engines)


@pytest.mark.heavy
def test_the_same_trace_goes_through_an_engine_and_its_live_base_in_turn(suite):
    config, base = against(suite, "raced")
    suite.run(FILE, "--precision=int8_wo", f"--against=config:{base}", config=config)
    record = suite.record()
    (entry,) = record.serving
    assert entry.base == "toy-fake-int8_wo@base"
    assert len(entry.runs) == len(entry.base_runs) == 4
    assert [run.trace for run in entry.runs] == [run.trace for run in entry.base_runs]
    assert len({run.trace for run in entry.runs}) == 4
    verdicts = {verdict.metric: verdict for verdict in record.verdicts}
    assert set(verdicts) == {"slo", "serving_ttft", "serving_tpot", "serving_e2el", "serving_level"}
    assert rejudged(record) == [verdict.status for verdict in record.verdicts]
    lagged = any(run.why_not for run in (*entry.runs, *entry.base_runs))  # beside the other tests of this machine
    for metric in ("serving_tpot", "serving_e2el"):  # the base takes a quarter of the time for each token
        assert verdicts[metric].status == ("INCONCLUSIVE" if lagged else "FAIL"), verdicts[metric].explanation
        assert verdicts[metric].estimate < 0.6
        assert "% of the requests took longer than on the base" in " ".join(verdicts[metric].warnings)
    assert verdicts["serving_level"].status in ("PASS", "INCONCLUSIVE")


@pytest.fixture
def virtual(monkeypatch, workspace):
    """The command in this process, on the fake's own clock."""
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(enginegate_fake, "CLOCK", enginegate_fake.VirtualClock())
    monkeypatch.setattr("enginegate.measure.serving.pairs.foreign_load", lambda *_: 0.0)
    level = {"ttft": 0.2, "tpot": None, "share": 0.8}
    return workspace.variant("curve", serving={"rate": 100.0, "requests": 80, "slo": level})


def test_serve_prints_the_curve_and_writes_it(virtual, tmp_path, capsys):
    out = tmp_path / "results"
    asked = ["--precision", "int8_wo", "--tolerance", "60%", "--out", str(out)]
    assert main(["serve", "--config", str(virtual), *asked]) == 0
    printed = capsys.readouterr().out
    assert "toy-fake-int8_wo" in printed
    assert "capacity: between" in printed
    (curve,) = json.loads((out / "serving_curve.json").read_text(encoding="utf-8"))
    assert 80 < curve["capacity"]["low"] < 160 < curve["capacity"]["high"] < 500  # four at a time it answers about 160
    assert (out / "serving_curve.csv").read_text(encoding="utf-8").count("\n") == len(curve["points"]) + 1
    assert (out / "serving_curve.png").stat().st_size > 10_000


def test_serve_tries_the_rates_that_it_is_given(virtual, capsys):
    options = ["--precision", "int8_wo", "--rates", "20,40", "--requests", "60", "--json"]
    assert main(["serve", "--config", str(virtual), *options]) == 0
    (curve,) = json.loads(capsys.readouterr().out)
    assert [point["rate"] for point in curve["points"]] == [20, 40]
    assert all(point["status"] == "PASS" and point["believed"] for point in curve["points"])
