"""What somebody with two minutes reads: short enough, and what it shows is what a session prints."""

from __future__ import annotations

import pytest
from docs_text import DOCS, REPOSITORY, read


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize(("page", "next_part"), [("gates.md", "A gate takes samples"), ("results.md", "## A CPU")])
def test_a_long_page_begins_with_a_summary(page, next_part):
    _, begin, rest = read(page).partition("**In short.**")
    summary, end, _ = rest.partition(next_part)
    assert begin
    assert end
    assert len(summary.split()) <= 200


@pytest.mark.parametrize(("name", "status"), [("green", "PASS"), ("red", "FAIL"), ("undecided", "INCONCLUSIVE")])
def test_recorded_sessions_fit_a_screen_of_80_columns(name, status):
    """The first line is the command, as it was typed."""
    _, *lines = (DOCS / "terminal" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 50
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("engine, batch ")) + 1]
    assert status in table


def test_the_readme_explains_the_sentence_of_its_picture():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (sentence,) = [line.strip() for line in readme.splitlines() if line.startswith("    FAIL ")]
    assert sentence in " ".join((DOCS / "terminal" / "red.txt").read_text(encoding="utf-8").split())
