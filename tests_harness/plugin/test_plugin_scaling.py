"""Sweeps over the fake: the shape is gated, recorded and drawn; a batch that does not batch is caught by it alone."""

from __future__ import annotations

import re

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

pytestmark = pytest.mark.heavy  # a session each, of seconds

SCALING = "tests_perf/test_scaling.py"
SIZES = {"batch_sizes": [1, 2, 4], "input_lens": [16, 32], "output_lens": [8], "looks": [6, 10]}
#: One sequence after the other from batch 4 on, as a scheduler does whose batch limit was set to 2 by mistake.
SERIAL = """
import dataclasses
import enginegate_fake
import sabotage

class Serial(sabotage.Wrapped):
    def generate(self, prompts, params):
        begun, found = enginegate_fake.CLOCK.now(), []
        step = 2 if len(prompts) > 2 else len(prompts)
        for first in range(0, len(prompts), step):
            late = enginegate_fake.CLOCK.now() - begun
            for answer in self._engine.generate(prompts[first:first + step], params):
                times = tuple(late + time for time in answer.token_times)
                found.append(dataclasses.replace(answer, token_times=times))
        return found

def pytest_enginegate_engine_loaded(engine):
    return Serial(engine) if engine.spec.precision == "int8_wo" else None
"""


@pytest.fixture
def config(suite):
    return suite.workspace.variant("scaling", scaling=SIZES)


def test_the_shape_is_judged_recorded_and_drawn(suite, config):
    result = suite.run(SCALING, "--precision=int8_wo", "--price-per-hour=3.6", config=config)
    assert result.parseoutcomes()["passed"] == 5
    record = suite.record()
    (sweep,) = record.sweeps
    assert [point.id for point in sweep.points] == [f"b{b}-i{i}-o8" for b in (1, 2, 4) for i in (16, 32)]
    assert record.arenas == []
    for entry in record.verdicts:
        verdict = judge(restore_inputs(entry.inputs), record)
        assert (verdict.status.value, verdict.explanation) == (entry.status, entry.explanation)
    gains = {v.test.partition("[")[2]: v.estimate for v in record.verdicts if v.metric == "throughput_scaling"}
    # the fake takes 1 + 0.1 b for a batch of b: twice 1.1 / 1.2, and twice 1.2 / 1.4, which is the least
    assert all(gain == pytest.approx(2 * 1.2 / 1.4, rel=0.03) for gain in gains.values())
    folder = suite.folder / "runs" / record.id
    lines = (folder / "scaling.csv").read_text().splitlines()
    assert len(lines) == 1 + 6
    tokens, cost, whole = (
        lines[0].split(",").index(name) for name in ("Tokens/sec", "Cost/1M Output", "Cost/1M In+Out")
    )
    cells = lines[1].split(",")
    assert float(cells[cost]) == pytest.approx(1e6 * 3.6 / 3600 / float(cells[tokens]), rel=1e-3)
    assert float(cells[whole]) == pytest.approx(float(cells[cost]) / 3, rel=1e-3), "16 tokens in, 8 out"
    assert (folder / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "at 3.6 USD an hour" in (folder / "summary.md").read_text()


def test_a_batch_that_does_not_batch_fails_by_its_shape(suite, config):
    suite.prepare(more=SERIAL)
    suite.run(SCALING, "--precision=int8_wo", config=config)
    record = suite.record()
    found = {entry.test.partition("[")[2].rstrip("]"): entry for entry in record.verdicts}
    rising = [entry for name, entry in found.items() if name.endswith("-o8")]
    assert [entry.status for entry in rising] == ["FAIL", "FAIL"]
    assert all("b2 to b4 [" in entry.explanation and entry.explanation.endswith("below 1.1x") for entry in rising)
    assert {entry.status for name, entry in found.items() if not name.endswith("-o8")} == {"PASS"}, (
        "single sizes look well"
    )


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"batch_sizes": [4]}, "one batch size shows no scaling"),
        ({"batch_sizes": []}, "one batch size shows no scaling"),
        ({"batch_sizes": [1, 2, 3]}, "3 is not twice 2"),
        ({"batch_sizes": [4, 2, 1]}, "2 is not twice 4"),
        ({"batch_sizes": [2, 4, 8]}, "scaling.batch_sizes.2: 8 is over limits.max_batch_size 4"),
        ({"batch_sizes": [1, 2], "knee": 4}, "scaling.knee: 4 is none of scaling.batch_sizes [1, 2]"),
        ({"input_lens": [200, 400]}, "scaling.input_lens.1: 400 tokens are over limits.max_input_len 256"),
        ({"output_lens": [16, 24]}, "24 is not twice 16"),
        ({"output_lens": [1, 2]}, "scaling.output_lens.0"),
        ({"throughput": 2.0}, "scaling.throughput"),
        ({"itl": 0.9}, "scaling.itl"),
        ({"looks": []}, "scaling.looks"),
        ({"looks": [10, 6]}, "do not increase"),
    ],
)
def test_a_section_that_cannot_be_is_named(suite, section, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(suite.workspace.variant("scaling_wrong", scaling=section))


def test_one_batch_size_leaves_nothing_to_double(suite):
    limits = {"max_batch_size": 1, "max_input_len": 256, "max_output_len": 32}
    config = suite.workspace.variant(
        "scaling_one", limits=limits, workload={"batch_sizes": [1], "input_len": 16, "output_len": 8}, floors={}
    )
    result = suite.run(SCALING, "--precision=int8_wo", "-rs", "-k", "throughput", config=config)
    assert result.parseoutcomes() == {"skipped": 4, "deselected": 1}
    assert "there is nothing to double" in result.stdout.str()


@pytest.mark.parametrize("price", ["0", "-1", "nan", "two", "1e9"])
def test_a_price_that_is_none_is_refused(suite, price):
    result = suite.run(SCALING, f"--price-per-hour={price}")
    assert f"--price-per-hour '{price}' is not a price of an hour" in result.stderr.str()


def test_cost_and_energy_stand_in_the_table_of_the_session(suite, monkeypatch):
    """A meter of 100 W by the fake's own clock."""
    import enginegate_fake
    from enginegate.machine.energy import EnergyMeter
    from enginegate.session.bench import ModelBench

    meter = EnergyMeter("a meter", ((lambda: 100.0 * enginegate_fake.CLOCK.now(), None),))
    monkeypatch.setattr(ModelBench, "meter", lambda self, specs: meter)
    result = suite.run("tests_perf/test_speedup.py", "--precision=int8_wo", "--batch-size=1", "--price-per-hour=2")
    record = suite.record()
    turns = [turn for block in record.arenas[0].blocks for turn in block.rounds]
    assert all(turn.figures["joules"] == pytest.approx(100 * turn.seconds, rel=1e-3) for turn in turns)
    assert record.config["cost"] == {"price_per_hour": 2.0, "currency": "USD"}
    output = result.stdout.str()
    for column in ("per 1M out", "per 1M in+out", "J/token"):
        assert column in output
    assert "at 2 USD an hour" in output
    summary = (suite.folder / "runs" / record.id / "summary.md").read_text()
    assert "| Cost/1M Output | Cost/1M In+Out | Joules/Token |" in summary
