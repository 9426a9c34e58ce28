"""What somebody with two minutes reads: short enough, and what it shows is what a session prints."""

from __future__ import annotations

import pytest
from docs_text import REPOSITORY, read


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize(("page", "next_part"), [("gates.md", "A gate takes samples"), ("results.md", "## A CPU")])
def test_a_long_page_begins_with_a_summary(page, next_part):
    _, begin, rest = read(page).partition("**In short.**")
    summary, end, _ = rest.partition(next_part)
    assert begin
    assert end
    assert len(summary.split()) <= 200
