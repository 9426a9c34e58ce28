"""docs/histories.md: what it says of thirty real nights is what their history says today."""

from __future__ import annotations

import pytest
from docs_text import DOCS, read
from enginegate.cli import main

NIGHTS = DOCS / "results" / "history" / "nights.jsonl"


@pytest.fixture
def blame(tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'nights.sqlite'}"
    assert main(["history", "import", str(NIGHTS), "--history", url]) == 0

    def ask(metric: str) -> str:
        capsys.readouterr()
        assert main(["history", "blame", "int8_wo", "--metric", metric, "--history", url]) == 0
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize("metric", ["speedup", "latency"])
def test_what_blame_says_of_the_nights_is_on_the_page(blame, metric):
    page = read("histories.md")
    said = [line.strip() for line in blame(metric).splitlines() if line.startswith(("  worse", "  fleet", "  between"))]
    assert len(said) == 3
    for line in said:
        assert line in page, "take the lines of `enginegate history blame` into the page"


def test_the_planted_commit_is_named_and_the_machine_is_told_from_the_engine(blame):
    assert "02d40e20c512 → 84e301b4c4b6" in blame("speedup")
    assert "the reference did not move along" in blame("speedup")
    assert "the reference moved along" in blame("latency")
