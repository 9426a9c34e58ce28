"""The audit of a gate against a live base: what it says of launches, and what later gates believe by it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from enginegate.core.errors import BaselineError, ConfigError
from enginegate.core.records import SideEntry
from enginegate.gates.launches import LAUNCH_LOOKS, LAUNCH_SPREAD, decide_launches
from enginegate.gates.sequential import FAILED, PASSED, SpeedPolicy
from enginegate.storage.audits import (
    AuditedLaunches,
    LaunchSession,
    audit_path,
    file_of,
    load_audit,
)
from enginegate.verdicts.audit import CHANCE, accept_audit, shortcoming
from enginegate.verdicts.launch_audit import (
    SLOWDOWNS,
    at,
    belief,
    blind,
    rate_line,
    refuse_unlike,
    report,
    resampled,
    spread_line,
    warnings,
)
from enginegate.verdicts.launch_audit import new_launches as new

POLICY = SpeedPolicy(margin=0.02, tolerated=0.05, alpha=0.01 / 18, looks=LAUNCH_LOOKS, shift=LAUNCH_SPREAD)


def numbers(spread: float, count: int = 12, offset: float = 0.0) -> list[float]:
    """Launches whose standard deviation is exactly that, otherwise as a normal distribution has them."""
    drawn = np.random.default_rng(count).standard_normal(count)
    return [float(each) for each in offset + spread * (drawn - drawn.mean()) / drawn.std(ddof=1)]


def audit_of(launches: list[float], run: str = "a", metric: str = "speedup") -> AuditedLaunches:
    session = LaunchSession(run=run, started="now", against="python:/opt/copy", numbers=launches)
    return new("engine", "engine@base", "b1", metric, POLICY, session)


@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_what_an_audit_says_is_what_launches_of_that_spread_do(spread):
    audit = audit_of(numbers(spread, 60))
    drawn = spread * np.random.default_rng(7).standard_normal((8_000, LAUNCH_LOOKS[-1]))
    policy = replace(POLICY, shift=audit.spread)
    assert [rate.slowdown for rate in audit.rates] == sorted({0.0, *SLOWDOWNS})
    for rate in audit.rates:
        outcome = decide_launches(drawn - np.log1p(rate.slowdown), policy)
        assert rate.fails == pytest.approx(float(np.mean(outcome.status == FAILED)), abs=0.05)
        assert rate.passes == pytest.approx(float(np.mean(outcome.status == PASSED)), abs=0.05)
        assert rate.mean_launches == pytest.approx(float(outcome.blocks.mean()), abs=0.5)
    assert at(audit.rates, 0.0).fails == 0
    assert at(audit.rates, 0.02).fails < 3 * POLICY.alpha
    assert shortcoming(audit, CHANCE) is None


def test_launches_that_spread_twice_as_much_make_the_gate_less_eager():
    steady, restless = audit_of(numbers(0.015)), audit_of(numbers(0.03))
    assert at(steady.rates, 0.05).fails > 0.9
    assert at(restless.rates, 0.05).fails < 0.6
    assert blind(steady.rates, POLICY) is None
    assert "sees a slowdown of 5 % with less than 90 % power" in str(blind(restless.rates, POLICY))
    same_day = np.array([[0.06, 0.05, 0.07, 0.055]]) * -1.0
    eager = [
        decide_launches(same_day, replace(POLICY, looks=(4,), shift=each.spread)).status[0]
        for each in (steady, restless)
    ]
    assert eager[0] == FAILED != eager[1], "the same launches, judged by another belief"


def test_few_launches_are_not_believed_blindly():
    calm = {count: belief(audit_of(numbers(0.001, count)), LAUNCH_SPREAD) for count in (4, 12, 100)}
    assert calm[4].scale > 0.011, "three degrees of freedom beside four"
    assert 0.007 < calm[12].scale < 0.009
    assert calm[100].scale < 0.004
    assert {each.df for each in calm.values()} == {LAUNCH_SPREAD.df}, "another day may spread otherwise"
    assert belief(audit_of(numbers(0.03)), LAUNCH_SPREAD).scale == pytest.approx(0.03, rel=0.1)
    assert belief(audit_of([0.0] * 4), LAUNCH_SPREAD).scale > 0.01


def test_a_mean_difference_of_sessions_is_no_spread_of_launches_and_is_said():
    near, far = audit_of(numbers(0.01)), audit_of(numbers(0.01, offset=0.04))
    assert far.spread.scale == pytest.approx(near.spread.scale)
    assert any("the engine is faster than its copy by 3.9 %" in line for line in warnings(far))
    assert not any("its copy" in line for line in warnings(near))


def test_the_lines_say_how_many_launches_and_what_they_show():
    audit = audit_of(numbers(0.019))
    assert spread_line(audit.spread, audit) == "launches are taken to spread by 1.8 %, by an audit of 12"
    line = rate_line(audit.rates, POLICY)
    assert line.startswith("this gate on this machine: 0 % false alarms, 0")
    assert "(stated: 0.056 %)" in line
    text = "\n".join(report(audit))
    for slowdown in SLOWDOWNS:
        assert f"slower by {100 * slowdown:g} %: FAIL " in text
    assert "12 launches beside python:/opt/copy spread by 1.9 %" in text
    assert "does not see even 3 %" in rate_line(audit.rates[:4], POLICY)


def test_accepted_sessions_are_pooled_and_a_run_is_accepted_once(tmp_path):
    first, second = audit_of(numbers(0.01)), audit_of(numbers(0.02, 8), run="b")
    accept_audit(file_of("here", [first]), tmp_path)
    accept_audit(file_of("here", [second]), tmp_path)
    with pytest.raises(BaselineError, match="accepted before"):
        accept_audit(file_of("here", [second]), tmp_path)
    file = load_audit(tmp_path, "here")
    assert file is not None
    found = file.of("engine", "b1", "engine@base", "speedup")
    assert isinstance(found, AuditedLaunches)
    assert [session.run for session in found.sessions] == ["a", "b"]
    assert first.spread.scale < found.spread.scale < second.spread.scale
    assert spread_line(found.spread, found).endswith("by an audit of 20 in 2 sessions")
    assert resampled(found, replace(POLICY, shift=found.spread)) == found.rates, "seeded"
    assert file.of("engine", "b1", "engine@base", "itl") is None


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"sessions": []}, "sessions"),
        ({"sessions": [{"run": "a", "started": "", "against": "", "numbers": [0.1]}]}, "numbers"),
        ({"policy": {"looks": []}}, "policy"),
        ({"kind": "rounds"}, "damaged"),
    ],
)
def test_a_damaged_audit_is_refused_and_named(tmp_path, damage, says):
    accept_audit(file_of("here", [audit_of(numbers(0.01))]), tmp_path)
    path = audit_path(tmp_path, "here")
    content = json.loads(path.read_text())
    (gate,) = content["gates"].values()
    gate |= damage
    path.write_text(json.dumps(content))
    with pytest.raises(BaselineError, match=says):
        load_audit(tmp_path, "here")


def test_more_false_alarms_than_stated_are_a_shortcoming():
    audit = audit_of(numbers(0.01))
    nothing, *others = audit.rates
    worse = audit.model_copy(update={"rates": [replace(nothing, fails=0.01), *others]})
    assert shortcoming(worse, CHANCE) == "speedup: 40 false alarms in 4000, more than the 0.0556 % that the gate states"


def side(engine: str, **others: object) -> SideEntry:
    fields: dict[str, object] = {
        "engine": engine,
        "python": "3.11.2",
        "versions": "openvino 2026.4.1, nncf 3.0.0",
        "effective": {"precision": "int8_wo", "threads": 2, "details": {"device": "CPU"}},
        "key": "0123456789abcdef",
        "spec": {"precision": "int8_wo", "variant": engine.partition("@")[2], "quantization": {"group_size": 64}},
        "runtime": {"threads": 0},
    }
    return SideEntry(**{**fields, **others})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"versions": "openvino 2026.3.0, nncf 3.0.0"}, "openvino: 2026.4.1 here, 2026.3.0 there"),
        ({"versions": "openvino 2026.4.1"}, "nncf: 3.0.0 here, nothing there"),
        ({"python": "3.12.1"}, "python: 3.11.2 here, 3.12.1 there"),
        ({"runtime": {"threads": 1}}, "runtime.threads: 0 here, 1 there"),
        (
            {"effective": {"precision": "int8_wo", "threads": 2, "details": {"device": "GPU"}}},
            "effective.details.device: CPU here, GPU there",
        ),
        ({"key": "fedc"}, "built engine: 0123456789ab here, fedc there"),
        (
            {"key": "fedc", "spec": {"precision": "int8_wo", "variant": "base", "quantization": {"group_size": 32}}},
            "spec.quantization.group_size: 64 here, 32 there",
        ),
    ],
)
def test_an_audit_of_two_engines_is_none_and_says_what_differs(others, says):
    if "nothing there" in says:
        others = {**others, "key": "fedc"}
    with pytest.raises(ConfigError, match="two copies of the same engine") as caught:
        refuse_unlike(side("e"), side("e@base", **others), "python:/opt/other")
    assert says in caught.value.problem
    assert "python:/opt/other" in caught.value.problem
    assert caught.value.problem.count(" there") == 1, "nothing else"


def test_a_copy_that_has_the_runtime_alone_is_a_copy():
    refuse_unlike(side("e"), side("e@base"), "python:/opt/copy")
    bare = side("e@base", versions="openvino 2026.4.1, nncf absent")
    refuse_unlike(side("e"), bare, "python:/opt/copy")
    with pytest.raises(ConfigError, match=r"nncf: 3\.0\.0 here, absent there"):
        refuse_unlike(side("e"), bare.model_copy(update={"key": "fedc"}), "python:/opt/copy")
