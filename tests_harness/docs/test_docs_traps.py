"""docs/traps.md: every row has a source that can be looked up and a test of ours that exists."""

from __future__ import annotations

import ast
import re

import pytest
from docs_text import REPOSITORY, read, tables

ROWS = [row for table in tables(read("traps.md")) for row in table[1:]]
#: What makes a source one: a day, a commit or a version at which the fault was there.
WHEN = re.compile(r"\(([^()]*\d{1,2} )?[A-Z][a-z]+ 20\d\d\)|\(commit [0-9a-f]{7}\)|[a-z] \d+\.\d+\.\d+")


def test_there_are_as_many_traps_as_a_page_is_worth():
    assert len(ROWS) >= 30
    assert [len(row) for row in ROWS] == [4] * len(ROWS)
    for column in (0, 3):
        told = [row[column] for row in ROWS]
        assert sorted(told) == sorted(set(told)), "each trap once, and each by a test of its own"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3].split("::")[-1].strip("`"))
def test_a_trap_has_a_source_and_a_test(row):
    trap, source, ours, test = row
    assert trap.endswith(".")
    assert ours
    assert WHEN.search(source), "say when, at which commit, or in which version"
    for commit, short in re.findall(r"/blob/([0-9a-f]+)/\S+ \(commit (\w+)\)", source):
        assert len(commit) == 40
        assert commit.startswith(short)
    name = re.fullmatch(r"`(tests_harness/[\w/]+\.py)::(test_\w+)`", test)
    assert name is not None
    module = ast.parse((REPOSITORY / name[1]).read_text(encoding="utf-8"))
    (function,) = [each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == name[2]]
    marks = {ast.unparse(each) for each in function.decorator_list}
    assert not [mark for mark in marks if "skip" in mark or "xfail" in mark], "a test that does not run shows nothing"
