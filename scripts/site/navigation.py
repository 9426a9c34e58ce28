"""The pages of the site and their order, from ``docs/navigation.yaml``; and the first page, which lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = "docs/navigation.yaml"
#: Mark of pages that are made while the site is built; they lie beside those of docs/ then.
MADE_MARK = "made:"
MADE = "docs/reference_"
#: Pages in the repository's root folder.
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@dataclass(frozen=True)
class Section:
    """One part of the site. ``pages``: by file, what each is about."""

    name: str
    about: str
    pages: dict[str, str]


def read_navigation(repository: Path) -> list[Section]:
    """The sections. Raises SystemExit where they and the pages that are there differ."""
    sections = [
        Section(
            each["section"],
            each["about"],
            {name.replace(MADE_MARK, MADE): about for name, about in each["pages"].items()},
        )
        for each in yaml.safe_load((repository / FILE).read_text(encoding="utf-8"))
    ]
    named = [name for section in sections for name in section.pages if not name.startswith(MADE)]
    there = {*ROOT_PAGES, *(page.relative_to(repository).as_posix() for page in (repository / "docs").rglob("*.md"))}
    problems = [f"{FILE} lacks {name}: give it a line in its section" for name in there - {*named}]
    problems += [f"{FILE} names {name}, which is not there" for name in {*named} - there]
    problems += [f"{FILE} names {name} twice" for name in {*named} if named.count(name) > 1]
    if problems:
        raise SystemExit("\n".join(sorted(problems)))
    return sections


def home(sections: list[Section]) -> str:
    """The first page, as reStructuredText."""
    lines = ["enginegate", "==========", "", INTRODUCTION, ""]
    for section in sections:
        lines += [section.name, "-" * len(section.name), "", section.about, ""]
        lines += [f"- :doc:`{_entry(name)}`: {about}" for name, about in section.pages.items()]
        lines += ["", ".. toctree::", "   :hidden:", f"   :caption: {section.name}", "   :titlesonly:", ""]
        lines += [f"   {_entry(name)}" for name in section.pages] + [""]
    return "\n".join(lines)


def _entry(name: str) -> str:
    """A page as a list names it: by its own title, but for the README, which has the site's."""
    return f"{README_TITLE} <README>" if name == "README.md" else name.removesuffix(".md")


README_TITLE = "At a glance"
INTRODUCTION = """\
**Did this change make the LLM engine slower, bigger or worse?** enginegate answers in pytest: PASS, FAIL or
INCONCLUSIVE, with a stated chance of being wrong."""
