from __future__ import annotations

import pytest
from enginegate.gates.resources import MIB, judge_build_time, judge_memory, judge_size
from enginegate.gates.verdict import Status


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (1000 * MIB, Status.PASS),
        (1006 * MIB, Status.PASS),  # 0.5 % and one quantum: 1007 MiB
        (1008 * MIB, Status.FAIL),
        (900 * MIB, Status.PASS),
    ],
)
def test_memory_beyond_its_allowance_fails(value: float, status: Status) -> None:
    assert judge_memory(value, 1000 * MIB, quantum=2 * MIB).status is status


def test_the_explanation_is_readable() -> None:
    verdict = judge_memory(1100 * MIB, 1000 * MIB, quantum=2 * MIB, subject="int8_wo b8")
    assert verdict.explanation == (
        "int8_wo b8: 1100.0 MiB, baseline 1000.0 MiB: 10.0 % more, beyond the 0.7 % that moves by itself"
    )
    assert verdict.change == pytest.approx(0.1)
    assert verdict.unit == "bytes"


def test_a_gain_is_passed_and_said() -> None:
    verdict = judge_memory(800 * MIB, 1000 * MIB)
    assert verdict
    assert "accept it" in verdict.warnings[0]
    assert judge_memory(1000 * MIB, 1000 * MIB).warnings == ()


def test_a_limit_holds_with_and_without_a_baseline() -> None:
    assert judge_memory(500 * MIB, None, limit=600 * MIB).status is Status.PASS
    assert judge_memory(700 * MIB, None, limit=600 * MIB).status is Status.FAIL
    assert judge_memory(700 * MIB, 700 * MIB, limit=600 * MIB).status is Status.FAIL
    assert judge_memory(500 * MIB, None).status is Status.NO_BASELINE


@pytest.mark.parametrize("judge", [judge_memory, judge_size, judge_build_time])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_that_cannot_be_fails(judge: object, value: float) -> None:
    verdict = judge(value, 100.0 * MIB)  # type: ignore[operator]
    assert verdict.status is Status.FAIL
    assert "unusable" in verdict.explanation


def test_a_baseline_or_limit_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="baseline of 0"):
        judge_memory(1.0, 0)
    with pytest.raises(ValueError, match="limit of -1"):
        judge_size(1.0, None, limit=-1)


def test_size_is_tighter_than_memory() -> None:
    assert judge_size(1002 * MIB, 1000 * MIB).status is Status.FAIL
    assert judge_memory(1002 * MIB, 1000 * MIB).status is Status.PASS


@pytest.mark.parametrize("seconds", [10.0, 100.0, 1e6])
def test_build_time_is_advice(seconds: float) -> None:
    verdict = judge_build_time(seconds, 20.0)
    assert verdict.status is (Status.PASS if seconds <= 27 else Status.INCONCLUSIVE)
    assert ("advice" in verdict.explanation) == (seconds > 27)
