"""Tables of pages that scripts make from records: each is what its records say today."""

from __future__ import annotations

import pytest
from scripted import SCRIPTS, scripts_of

FOLDERS = sorted(path.parent.name for path in SCRIPTS.glob("*/page.py"))
#: Kinds of tables that take longer than a test should.
SLOW = {("live", "power"), *(("sensitivity", kind) for kind in ("sensitivity", "divergence", "few", "loss", "columns"))}


def differing(folder: str, slow: bool) -> list[str]:
    """Tables that are not as their records are; a page without a table of some kind is an error."""
    with scripts_of(folder) as script:
        pages, page = script("pages"), script("page")
        text = page.PAGE.read_text(encoding="utf-8")
        assert {name for name, _ in pages.marked(text, page.TABLES)} == set(page.TABLES)
        kinds = {name: make for name, make in page.TABLES.items() if ((folder, name) in SLOW) == slow}
        return [name for name, make in kinds.items() if pages.filled(text, {name: make}) != text]


@pytest.mark.parametrize("folder", FOLDERS)
def test_tables_are_those_of_their_records(folder):
    assert not differing(folder, slow=False), f"run `python scripts/{folder}/page.py`"


@pytest.mark.heavy
@pytest.mark.parametrize("folder", sorted({folder for folder, _ in SLOW}))
def test_so_are_those_that_take_longer(folder):
    assert not differing(folder, slow=True), f"run `python scripts/{folder}/page.py`"


def test_a_table_is_replaced_and_the_rest_of_the_page_stays():
    with scripts_of("live") as script:
        pages = script("pages")
    tables = {"one": lambda what: ["| new |", f"| {what} |"], "none": lambda _: []}
    text = "a\n<!-- one: x\ny -->\n| old |\n<!-- end -->\nb\n<!-- none -->\n| old |\n<!-- end -->\n<!-- other -->\n"
    made = "a\n<!-- one: x\ny -->\n| new |\n| x\ny |\n<!-- end -->\nb\n<!-- none -->\n<!-- end -->\n<!-- other -->\n"
    assert pages.filled(text, tables) == made
    assert pages.filled(made, tables) == made
    assert pages.marked(text, tables) == [("one", "x\ny"), ("none", "")]


def test_check_says_whether_the_page_is_as_its_records_are(tmp_path, monkeypatch):
    page, tables = tmp_path / "page.md", {"one": lambda _: ["| new |"]}
    with scripts_of("live") as script:
        pages = script("pages")
        page.write_text("<!-- one -->\n| old |\n<!-- end -->\n", encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["page.py", "--check"])
        assert pages.main(page, tables) == 1
        assert "old" in page.read_text(encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["page.py"])
        assert pages.main(page, tables) == 0
        assert page.read_text(encoding="utf-8") == "<!-- one -->\n| new |\n<!-- end -->\n"
