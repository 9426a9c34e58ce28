from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from enginegate.report.plot import PANELS, draw, save_plot
from enginegate.report.rows import record_rows

from tests_harness.storage.factory import run_record


def test_eight_panels_with_a_bar_or_n_a_for_every_engine() -> None:
    rows = record_rows(run_record(batch_sizes=(1, 8)))
    figure = draw(rows)
    assert len(figure.axes) == 8
    titles = [axis.get_title() for axis in figure.axes]
    for (title, _, _, _), shown in zip(PANELS, titles, strict=True):
        assert shown.startswith(title)
    latency, accuracy = figure.axes[0], figure.axes[3]
    assert len(latency.patches) == 4 * 2
    assert [label.get_text() for label in latency.get_xticklabels()] == ["tiny-8m\nbatch 1", "tiny-8m\nbatch 8"]
    assert len(accuracy.patches) == 4
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["tiny-8m"]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        "hf bf16",
        "openvino bf16",
        "openvino int8_wo",
        "openvino int4_awq",
    ]


def test_what_was_not_measured_is_labelled_n_a() -> None:
    figure = draw(record_rows(run_record()))
    rouge = figure.axes[4]
    assert [text.get_text() for text in rouge.texts] == ["n/a", "29", "29", "29"]
    heights = [patch.get_height() for patch in rouge.patches]
    assert heights == pytest.approx([0, 29, 29, 29])


def test_a_real_zero_is_not_n_a() -> None:
    record = run_record()
    zero = [
        entry.model_copy(update={"scores": entry.scores | {"rouge2": 0.0}}) if entry.metric == "summaries" else entry
        for entry in record.quality
    ]
    figure = draw(record_rows(record.model_copy(update={"quality": zero})))
    assert [text.get_text() for text in figure.axes[5].texts] == ["n/a", "0", "0", "0"]


def test_the_file_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    save_plot(record_rows(run_record()), path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    assert width >= 1600
    assert height >= 900
    assert content.endswith(b"IEND\xaeB`\x82")


def test_no_results_is_an_empty_grid() -> None:
    assert len(draw([]).axes) == 8


def test_an_engine_that_only_scored_takes_no_place_among_the_speeds() -> None:
    record = run_record()
    scored_only = [
        entry.model_copy(update={"engine": "tiny-8m-hf-fp32"})
        for entry in record.quality
        if "openvino-bf16" in entry.engine
    ]
    reference = next(entry for entry in record.engines if entry.role == "reference")
    quality_reference = reference.model_copy(
        update={"id": "tiny-8m-hf-fp32", "precision": "fp32", "role": "quality-reference"}
    )
    record = record.model_copy(
        update={"quality": [*record.quality, *scored_only], "engines": [*record.engines, quality_reference]}
    )
    figure = draw(record_rows(record))
    assert "hf fp32" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(figure.axes[0].patches) == 4 * 2
    assert len(figure.axes[3].patches) == 5


@pytest.mark.parametrize("count", [10, 14, 30])
def test_every_series_has_a_colour_of_its_own(count: int) -> None:
    row = record_rows(run_record())[0]
    rows = [replace(row, precision=f"p{index}") for index in range(count)]
    handles = draw(rows).legends[0].get_patches()
    assert len({handle.get_facecolor() for handle in handles}) == count


def test_an_engine_of_one_model_takes_no_place_beside_another() -> None:
    rows = record_rows(run_record(batch_sizes=(8,)))
    other = [replace(row, model="other") for row in rows if row.precision == "int8_wo"]
    latency = draw([*rows, *other]).axes[0]
    assert [label.get_text() for label in latency.get_xticklabels()] == ["tiny-8m\nbatch 8", "other\nbatch 8"]
    assert len(latency.patches) == 4 + 1
    assert "n/a" not in [text.get_text() for text in latency.texts]


def test_many_groups_keep_their_names_in_a_panel_of_which_nothing_was_measured() -> None:
    row = replace(record_rows(run_record(batch_sizes=(8,)))[0], memory_mb=None)
    figure = draw([replace(row, model=f"m{index}") for index in range(5)])
    for axis in (figure.axes[0], figure.axes[2]):
        assert [label.get_text() for label in axis.get_xticklabels()] == [f"m{index}, batch 8" for index in range(5)]
