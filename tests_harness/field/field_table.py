"""The table of cases from the field, as Markdown: input, kind, expected, got. Exits with 1 where one is wrong.

Run it as ``python tests_harness/field/field_table.py``, with words of a case's name to see only those.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from enginegate.report.markdown import markdown_table
from field_case import CASES, Case


def all_cases() -> Sequence[Case]:
    """The cases of every module ``cases_*.py`` of this folder."""
    for file in sorted(Path(__file__).parent.glob("cases_*.py")):
        importlib.import_module(file.stem)
    return tuple(CASES)


def main(words: Sequence[str]) -> int:
    """Run the cases, print the table."""
    rows, wrong = [], 0
    for case in all_cases():
        if words and not any(word in case.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            got = case.run(Path(folder))
        problem = case.problem(got)
        wrong += bool(problem)
        rows.append([case.given, case.kind, case.expected, f"{'WRONG: ' if problem else ''}{got.outcome}"])
    print("\n".join(markdown_table(["input", "kind", "expected", "got"], rows)))
    print(f"\n{len(rows)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # what cases share with other tests is imported from there
    sys.exit(main(sys.argv[1:]))
