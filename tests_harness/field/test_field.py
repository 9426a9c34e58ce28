"""Garbage in must not come out as a verdict: every case of the field's table is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from field_case import Case
from field_table import all_cases


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path) -> None:
    got = case.run(tmp_path)
    assert not case.problem(got)


def test_the_table_has_no_case_twice() -> None:
    names = [case.name for case in all_cases()]
    assert len(names) == len(set(names))
