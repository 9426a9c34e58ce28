"""KV caches of less than 16 bits beside 16 of the same engine: tests_perf/test_kv_cache.py over the fake."""

from __future__ import annotations

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge

pytestmark = pytest.mark.heavy  # a session each, of seconds

KV = "tests_perf/test_kv_cache.py"
#: As tests_harness/fakes has them; an int4 cache of the fake strays far.
LIMITS = {"int4": {"bytes": 0.3, "speed": 0.8, "perplexity_ratio": 1.2, "divergence": 0.3}}
SABOTAGE = """
import dataclasses
import sabotage

class {name}(sabotage.Wrapped):
{body}

def pytest_enginegate_engine_loaded(engine):
    return {name}(engine) if engine.spec.variant == "kv8" else None
"""
#: It says int8, and its pool is as large as one of 16 bits.
WIDE_AFTER_ALL = """
    def effective(self):
        told = self._engine.effective()
        return dataclasses.replace(told, kv_pool_bytes=2 * told.kv_pool_bytes)
"""
#: Scales are worked out again for every token.
SLOW = """
    def generate(self, prompts, params):
        return sabotage.Slowed.generate(self, prompts, params)
    factor = 1.5
"""
#: Every other token reads a wrong scale.
LOSSY = """
    def score(self, sequences, *, prefill=None):
        return [tuple(v - 0.2 * (n % 2) for n, v in enumerate(each)) for each in self._engine.score(sequences)]
    def distributions(self, sequences, **more):
        found = self._engine.distributions(sequences, **more)
        scored = self.score(sequences)
        return [dataclasses.replace(each, scores=__import__("numpy").array(v)) for each, v in zip(found, scored)]
"""


def statuses(record, engine: str) -> dict[str, str]:
    return {entry.metric: entry.status for entry in record.verdicts if entry.engine == engine}


@pytest.fixture
def config(suite):
    return suite.workspace.variant("kv", kv_cache={**LIMITS, "input_len": 16, "output_len": 8, "batch_size": 2})


def test_bytes_speed_and_quality_of_each_cache(suite, config):
    """Judged, recorded, shown, and judged alike from the record alone."""
    result = suite.run(KV, "--precision=int8_wo", config=config)
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["skipped"]) == (8, 4)
    record = suite.record()
    assert statuses(record, "toy-fake-int8_wo@kv8") == dict.fromkeys(
        ("kv_bytes", "kv_speed", "perplexity", "divergence"), "PASS"
    )
    (race,) = record.kv_caches
    assert (race.reference, race.workload) == ("toy-fake-int8_wo@kv16", "b2-i16-o8")
    assert record.arenas == []
    for entry in record.verdicts:
        verdict = judge(restore_inputs(entry.inputs), record)
        assert (verdict.status.value, verdict.explanation) == (entry.status, entry.explanation)
    output = result.stdout.str()
    assert "KV caches" in output
    assert "has no fp8 KV cache" in output
    folder = suite.folder / "runs" / record.id
    lines = (folder / "kv_cache.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [f"fake-int8_wo@{name}" for name in ("kv16", "kv8", "kv4")]
    assert "### toy: KV caches" in (folder / "summary.md").read_text()


@pytest.mark.parametrize(
    ("body", "metric", "said"),
    [
        (WIDE_AFTER_ALL, "kv_bytes", "1.000 of the"),
        (SLOW, "kv_speed", "below the floor of 0.80x"),
        (LOSSY, "perplexity", "more than the margin of 1.00 %"),
    ],
    ids=["wide", "slow", "lossy"],
)
def test_a_cache_that_does_not_keep_its_promise_fails(suite, config, body, metric, said):
    suite.prepare(more=SABOTAGE.format(name="Broken", body=body))
    suite.run(KV, "--precision=int8_wo", "-k", "kv_int8 and not divergence", config=config)
    record = suite.record()
    found = statuses(record, "toy-fake-int8_wo@kv8")
    assert [name for name, status in found.items() if status == "FAIL"] == [metric]
    assert any(said in entry.explanation for entry in record.verdicts)


def test_an_own_variant_is_compared_with_16_bits_of_itself(suite):
    engines = {"fake": {"precisions": ["int8_wo@small"], "variants": {"small": {"runtime": {"kv_precision": "int8"}}}}}
    config = suite.workspace.variant("kv_own", engines=engines, kv_cache={"input_len": 16, "output_len": 8})
    suite.run(KV, "-k", "bytes", config=config)
    (verdict,) = suite.record().verdicts
    assert (verdict.engine, verdict.inputs["reference"]) == (
        "toy-fake-int8_wo@small",
        "toy-fake-int8_wo@small.kv16",
    )


def test_a_variant_of_the_same_name_must_have_that_cache(suite):
    engines = {"fake": {"precisions": ["int8_wo"], "variants": {"kv8": {"runtime": {"kv_precision": "int4"}}}}}
    config = suite.workspace.variant("kv_named", engines=engines)
    result = suite.run(KV, config=config)
    assert "engines.fake.variants.kv8 has a KV cache in int4" in result.stdout.str()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"batch_size": 64}, "kv_cache.batch_size: 64 is over limits.max_batch_size 4"),
        ({"input_len": 4096}, "kv_cache.input_len: 4096 tokens are over limits.max_input_len 256"),
        ({"precisions": ["int8", "int8"]}, "is given twice"),
        ({"precisions": ["fp16"]}, "kv_cache.precisions.0"),
        ({"int8": {"bytes": 2}}, "kv_cache.int8.bytes"),
    ],
)
def test_a_section_that_cannot_be_is_named(suite, section, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        load_config(suite.workspace.variant("kv_wrong", kv_cache=section))


def test_they_run_where_they_are_asked_for(suite, config):
    def ran(*args: str) -> set[str]:
        lines = suite.run(*args, "--collect-only", "-q", config=config).stdout.lines
        return {line.partition("::")[0] for line in lines if "::test_" in line}

    assert KV not in ran("tests_perf")
    assert KV in ran(KV)
    assert ran("tests_perf", "-m", "kv_cache") == {KV}
    assert KV not in ran("tests_perf", "-m", "not kv_cache")
