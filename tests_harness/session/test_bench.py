"""A bench is found by a model's name or by a configuration file's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from enginegate.config.loading import load_config
from enginegate.config.project import own_folder
from enginegate.core.errors import ConfigError, EngineGateError, MeasurementError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Engine
from enginegate.machine import processes
from enginegate.machine.fingerprint import fingerprint
from enginegate.session.bench import ModelBench
from enginegate.session.engines import Wrap

from tests_harness.fakes import faulty
from tests_harness.fakes.workspace import CONFIG, FAKES, make_workspace


@pytest.mark.parametrize("model", ["tiny-random", str(own_folder("enginegate.configs") / "tiny-random.yaml")])
def test_bench_by_name_and_by_file(model):
    assert ModelBench.named(model, print).config.name == "tiny-random"


def test_bench_of_nothing_names_what_there_is():
    with pytest.raises(ConfigError, match="unknown model 'tiny-rundom'") as caught:
        ModelBench.named("tiny-rundom", print)
    assert "tiny-random" in caught.value.hint


Work = Callable[[ModelBench, EngineSpec], object]
RUNTIME = RuntimeSpec()


@pytest.mark.parametrize(
    ("phase", "work"),
    [
        ("build", lambda bench, spec: bench.files.build(spec)),
        ("load", lambda bench, spec: bench.engines.get(spec, RUNTIME, "candidate")),
        ("score", lambda bench, spec: bench.engines.get(spec, RUNTIME, "candidate").score([[1, 2]])),
        ("memory", lambda bench, spec: bench.memory_of(spec, RUNTIME, bench.config.workload(1))),
    ],
)
def test_each_phase_has_the_limit_that_its_configuration_sets(tmp_path, monkeypatch, phase: str, work: Work):
    """There was no key to set, and but for the memory pass no limit."""
    faulty.install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    file = make_workspace(tmp_path).variant(
        "hanging",
        model={"name": f"hangs-in-{phase}", "source": CONFIG["model"]["source"]},
        engines={"faulty": {"precisions": ["fp32"]}},
        default_engine="faulty",
        timeouts={phase: 1},
    )
    bench = ModelBench.of(load_config(file), fingerprint(), tmp_path / "cache", lambda _: None)
    try:
        with pytest.raises(EngineGateError, match=rf"(?s)no sign of life for 1 s.*raise timeouts\.{phase} \(now 1 s\)"):
            work(bench, bench.config.spec("faulty", "fp32"))
    finally:
        bench.close()


def faulty_bench(folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, wrap: Wrap) -> ModelBench:
    faulty.install(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    file = make_workspace(folder).variant(
        "faulty",
        model={"name": model, "source": CONFIG["model"]["source"]},
        engines={"faulty": {"precisions": ["fp32"]}},
        default_engine="faulty",
    )
    return ModelBench.of(load_config(file), fingerprint(), folder / "cache", lambda _: None, wrap)


def test_a_memory_pass_that_failed_is_not_run_again(tmp_path, monkeypatch):
    """Each of a model's memory tests ran it again, to the same time limit."""
    passes = []

    def fail(*_: object) -> None:
        passes.append(1)
        raise MeasurementError("it gave no sign of life", "raise timeouts.memory")

    monkeypatch.setattr("enginegate.session.bench.measure_memory", fail)
    bench = faulty_bench(tmp_path, monkeypatch, "sound", wrap=lambda engine: engine)
    spec = bench.config.spec("faulty", "fp32")
    for _ in range(2):
        with pytest.raises(MeasurementError, match="no sign of life"):
            bench.memory_of(spec, RUNTIME, bench.config.workload(1))
    assert len(passes) == 1
    bench.close()


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, RuntimeError])
def test_an_engine_whose_wrapping_fails_is_closed(tmp_path, monkeypatch, stopped_by):
    """Its process went on, and nobody knew of it."""
    seen = []

    def wrap(engine: Engine) -> Engine:
        monkeypatch.setattr(engine, "close", lambda close=engine.close: (seen.append("closed"), close()))
        raise stopped_by

    bench = faulty_bench(tmp_path, monkeypatch, "sound", wrap)
    with pytest.raises((stopped_by, EngineGateError)):
        bench.engines.get(bench.config.spec("faulty", "fp32"), RUNTIME, "candidate")
    assert seen == ["closed"]
    bench.close()


@pytest.mark.parametrize("wrong", [{"round": 0}, {"round": ".inf"}, {"rounds": 5}])
def test_a_limit_that_is_none_is_refused(tmp_path, wrong):
    file = make_workspace(tmp_path).variant("wrong", timeouts=wrong)
    with pytest.raises(ConfigError, match=r"timeouts\.round"):
        load_config(file)


@pytest.mark.parametrize(
    ("metric", "key", "line", "problem"),
    [
        (
            "letters",
            "questions",
            {"question": "Q?", "subject": "s", "choices": [*"abcd"], "answer": "E"},
            "the answer 'E'",
        ),
        ("perplexity", "passages", {"id": "one", "topic": "t", "text": "Short."}, "tokens, and 17 is the least"),
        ("summaries", "articles", {"id": "one", "title": "t", "text": "Some."}, "summary: Field required"),
    ],
)
def test_bad_data_are_found_before_anything_is_built(
    metric: str, key: str, line: dict[str, object], problem: str, tmp_path, monkeypatch
):
    """A build takes minutes, and a row that cannot be asked stops the metric whatever is built."""
    monkeypatch.syspath_prepend(str(FAKES))
    place = make_workspace(tmp_path)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bad.jsonl").write_text(json.dumps(line) + "\n")
    file = place.variant("bad", quality={**CONFIG["quality"], key: "bad.jsonl"})
    bench = ModelBench.of(load_config(file), fingerprint(), tmp_path / "cache", lambda _: None)
    spec = bench.config.spec("fake", "int8_wo")
    for ask in (lambda: bench.quality_of(spec, RUNTIME, metric), lambda: bench.reference_quality(metric)):
        with pytest.raises(ConfigError, match=rf"bad\.jsonl, line 1: .*{problem}"):
            ask()
    assert place.events() == [], "no engine was built or loaded"
