"""The tables of techniques of serving are made from records, by a script."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from docs_text import REPOSITORY
from enginegate.core.records import RunRecord
from enginegate.core.technique_records import AnswerEntry, TechniqueEntry
from enginegate.measure.techniques import TECHNIQUES
from enginegate.report.techniques import technique_rows
from enginegate.storage.runs import load_record
from scripted import scripts_of


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    with scripts_of("techniques") as script:
        yield script("page")


@pytest.fixture
def record() -> RunRecord:
    """A committed record, as if its session had measured two techniques."""
    (file, *_) = sorted((REPOSITORY / "docs" / "results" / "records").glob("*/run.json"))
    entries = [
        TechniqueEntry(
            technique="ngram",
            engine="m-vllm-fp16",
            load="some prompts",
            with_="speculation ngram",
            without="speculation none",
            on=[{"tokens_per_second": 30.0, "tokens_per_step": 2.5, "acceptance": 0.5}] * 3,
            off=[{"tokens_per_second": 20.0, "tokens_per_step": 1.0}] * 3,
            answers=[AnswerEntry(compared=48), AnswerEntry(compared=5, differs=True, gap=0.01)],
        ),
        TechniqueEntry(
            technique="prefix_cache",
            engine="m-vllm-fp16",
            load="some prompts",
            with_="prefix_caching True",
            without="prefix_caching False",
            on=[{"ttft": 0.1}] * 3,
            off=[{"ttft": 0.4}] * 3,
        ),
    ]
    return load_record(file).model_copy(update={"techniques": entries})


def test_a_table_says_what_the_records_say(page, record):
    lines = list(page.table([record], ["ngram"]))
    assert len(lines) == 3
    for words in ("| 30 | 20 | 1.50 x |", "acceptance 50 %", "1 of 2 answers differ", "tokens per step 2.5 (1)"):
        assert words in lines[2]
    assert "| 100 ms | 400 ms | 4.00 x |" in list(page.table([record], ["prefix_cache", "prefix_off"]))[2]


def test_nothing_stands_where_nothing_was_measured(page, record):
    assert list(page.table([record], ["chunked_prefill"])) == []


def test_each_technique_has_its_place_on_the_page(page):
    with scripts_of("techniques") as script:
        places = script("pages").marked(page.PAGE.read_text(encoding="utf-8"), page.TABLES)
    assert sorted(name for _, names in places for name in names.split()) == sorted(TECHNIQUES)


def test_every_technique_is_shown_by_the_figure_that_its_gate_compares(record):
    from enginegate.report.techniques import _SHOWN

    assert {name: (each.judged, each.higher) for name, each in TECHNIQUES.items()} == {
        name: shown[:2] for name, shown in _SHOWN.items()
    }
    assert len(technique_rows(record)) == 2
