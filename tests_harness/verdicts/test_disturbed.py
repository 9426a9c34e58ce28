"""What disturbed a race is told by its name: other work, or a CPU quota."""

from __future__ import annotations

import pytest
from enginegate.core.records import RunRecord
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.verdict import Status, Verdict
from enginegate.verdicts.inputs import SpeedInputs, StoredFloor
from enginegate.verdicts.judge import judge

from tests_harness.storage.factory import REFERENCE, arena_entry, run_record

INT8 = "tiny-8m-openvino-int8_wo"


def verdict(share: float, **changes: object) -> Verdict:
    """Of a race in which this share of blocks has a round with these changes."""
    arena = arena_entry()
    count = round(share * len(arena.blocks))
    blocks = [
        block.model_copy(update={"rounds": [block.rounds[0].model_copy(update=changes), *block.rounds[1:]]})
        for block in arena.blocks[:count]
    ]
    arena = arena.model_copy(update={"blocks": [*blocks, *arena.blocks[count:]]})
    record: RunRecord = run_record().model_copy(update={"arenas": [arena]})
    inputs = SpeedInputs(
        metric="speedup",
        candidate=INT8,
        subject="",
        workload=arena.workload,
        reference=REFERENCE,
        reference_label="",
        against=StoredFloor(ratio=1.1),
        policy=SpeedPolicy(),
    )
    return judge(inputs, record)


def test_rounds_that_a_quota_held_up_are_not_put_down_to_other_work() -> None:
    """They were: "other work disturbed 100% of the blocks", beside "median load 0% of the machine"."""
    found = verdict(1.0, throttled_seconds=0.2, disturbed=True)
    assert found.status is Status.INCONCLUSIVE
    assert "a CPU quota held up 100% of the blocks, also when repeated" in found.explanation
    assert "other work" not in " ".join([found.explanation, *found.warnings])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"throttled_seconds": 0.2}, ["a CPU quota held up 50% of blocks"]),
        ({"foreign_load": 0.5}, ["50% of blocks ran beside other work (median load 1% of the machine)"]),
    ],
)
def test_a_few_of_them_are_a_warning(changes: dict[str, float], words: list[str]) -> None:
    found = verdict(0.5, disturbed=True, **changes)
    assert found.status is Status.PASS
    assert list(found.warnings) == words
    assert verdict(0.0).warnings == ()
