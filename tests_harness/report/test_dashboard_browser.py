"""The pages in Debian's Chromium, without a network: what people see, reach by keyboard, and hear read out.

Heavy, as the chart library and the browser take seconds. Where there is no Chromium they are skipped, but for
``ENGINEGATE_REQUIRE_CHROMIUM=1``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.report import write_html
from enginegate.report.dashboard.history_site import write_site
from enginegate.storage.runs import load_record, save_record
from enginegate.verdicts.history import examine

from tests_harness.report.dashboard_pages import RACED, full_record, snapshot_of
from tests_harness.storage.factory import run_record
from tests_harness.storage.histories import CANDIDATES, nights

REQUIRED = bool(os.environ.get("ENGINEGATE_REQUIRE_CHROMIUM"))
CHROMIUM = shutil.which("chromium")
if not REQUIRED:
    pytest.importorskip("playwright")
    pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="there is no chromium: apt-get install chromium"),
]
SCHEMES = ("light", "dark")
INT8, INT4, _ = CANDIDATES


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A page of one run, one of two machines, one with texts and every status, and a site."""
    folder = tmp_path_factory.mktemp("pages")
    first = run_record("first")
    machine = first.fingerprint.model_copy(update={"key": "another-4c"})
    other = run_record("other", seed=1).model_copy(update={"fingerprint": machine})
    failed = [each.model_copy(update={"status": "FAIL"}) for each in other.verdicts[:1]]
    other = other.model_copy(update={"verdicts": [*failed, *other.verdicts[1:]]})
    found = {"run": [RACED], "machines": [save_record(each, folder / "runs") for each in (first, other)]}
    found["texts"] = [save_record(full_record(), folder / "runs")]
    for name, paths in found.items():
        write_html([(path, load_record(path)) for path in paths], folder / f"{name}.html")
    snapshot = snapshot_of(nights(120, {INT4: (80, 1.15), INT8: (116, 1.2)}, versions=[(80, "openvino", "2026.5")]))
    write_site(snapshot, examine(snapshot), folder / "site")
    return {name: folder / f"{name}.html" for name in found} | {"site": folder / "site" / "index.html"}


@pytest.fixture
def visit(browser, pages):
    """Opens a page and waits until it is ready. What it says on its console, and asks of a network, fails the test."""
    said: list[str] = []
    contexts = []

    def opened(name: str, fragment: str = "", scheme: str = "light", **options: object) -> Page:
        context = browser.new_context(color_scheme=scheme, **{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or said.append(f"asks {request.url}"))
        page.goto(f"{pages.get(name, name).as_uri()}{fragment}")
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready=yes]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def see_all(page: Page) -> None:
    """Open and scroll over everything, so that every chart is drawn."""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").first.wait_for()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["run", "texts", "site"])
def test_axe_finds_nothing(visit, name, scheme):
    page = visit(name, scheme=scheme)
    if name == "site":
        page.wait_for_selector("html[data-shown] .chart svg")
    see_all(page)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_charts_are_drawn_and_their_marks_have_names(visit):
    page = visit("run")
    see_all(page)
    assert page.locator(".chart svg").count() == 3
    live = page.locator("#figure-live svg")
    assert (
        page.locator("#figure-live [role=graphics-document]").get_attribute("aria-roledescription") == "visualization"
    )
    marks = live.locator("[role=graphics-symbol][aria-roledescription=point]")
    assert marks.count() == 6
    assert "PASS" in marks.first.get_attribute("aria-label")
    page.get_by_label("Metric").select_option(label="Gap between tokens")
    expect(marks).to_have_count(6)
    page.locator("#tradeoff").get_by_label("Speed against").select_option(label="Peak memory (MiB)")
    expect(page.locator("#figure-tradeoff svg")).to_contain_text("Peak memory (MiB) (lower is better")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_follow_the_system_and_the_switch_and_are_kept(visit, scheme):
    def ground() -> int:
        text = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(","))

    page = visit("run", scheme=scheme)
    assert (ground() < 200) == (scheme == "dark")
    other = "Light" if scheme == "dark" else "Dark"
    page.get_by_label(other).check(force=True)
    assert (ground() < 200) == (other == "Dark")
    see_all(page)
    label = page.locator("#figure-live svg .role-axis-label text").first
    light = sum(map(int, label.get_attribute("fill").removeprefix("rgb(").removesuffix(")").split(",")))
    assert (light > 400) == (other == "Dark")  # what is written on a chart follows
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    assert (ground() < 200) == (other == "Dark")


def test_filters_by_machine_hide_lines_and_redraw_charts(visit):
    page = visit("machines")
    see_all(page)
    both = page.locator("#results tbody tr:visible").count()
    points = page.locator("#figure-tradeoff")
    page.get_by_label("Machine", exact=True).select_option("another-4c")
    assert 0 < page.locator("#results tbody tr:visible").count() < both
    machines = page.locator("tr[data-machine]:visible").evaluate_all("all => all.map((each) => each.dataset.machine)")
    assert set(machines) == {"another-4c"}
    expect(points.get_by_label("Model and machine")).to_be_hidden()
    assert re.fullmatch(r"(\d+) of (\d+) lines shown", page.locator("#shown").inner_text())
    page.get_by_label("Verdict", exact=True).select_option("FAIL")
    expect(page.locator("#all-verdicts tbody tr:visible")).to_have_count(1)
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#results tbody tr:visible").count() == both
    page.get_by_label("Find in the tables").fill("int4_awq")
    expect(page.locator("#all-verdicts tbody tr:visible")).to_have_count(4)
    page.get_by_label("Find in the tables").fill("no such thing")
    expect(page.locator("#all-verdicts tbody tr:visible")).to_have_count(0)


def test_everything_is_reached_by_keyboard(visit):
    page = visit("run")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    head = page.locator("#all-verdicts th", has_text="Worse by")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    column = page.locator("#all-verdicts tbody td:nth-child(5)").all_inner_texts()
    numbers = [float(text.replace("−", "-").removesuffix(" %")) for text in column if text != "n/a"]
    assert numbers == sorted(numbers, reverse=True)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_without_scripts_the_tables_are_there(visit):
    page = visit("run", java_script_enabled=False)
    assert page.locator("#all-verdicts tbody tr:visible").count() == 54
    assert page.get_by_text("Charts need scripts").first.is_visible()


@pytest.mark.parametrize("name", ["run", "texts", "site"])
def test_a_narrow_window_scrolls_tables_and_not_the_page(visit, name):
    page = visit(name, viewport={"width": 390, "height": 800})
    if name == "site":
        page.wait_for_selector("html[data-shown]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_series_is_shown_with_its_changes(visit):
    page = visit("site")
    page.wait_for_selector("html[data-shown] .chart svg")
    page.get_by_label("Metric", exact=True).select_option("latency")
    page.get_by_label("Precision", exact=True).select_option("int4_awq")
    line = page.locator("#all-series tbody tr:visible")
    expect(line).to_have_count(1)
    line.get_by_role("link").click()
    digest = line.get_attribute("data-key")
    page.wait_for_selector(f"html[data-shown='{digest}']")
    detail = page.locator("#detail")
    expect(detail).to_contain_text("worse: +15")
    expect(detail).to_contain_text("openvino: none → 2026.5")
    expect(detail.locator("svg")).to_contain_text("latency (ms)")
    assert detail.locator("svg [aria-label*='accepted level']").count() == 1
    assert detail.locator("svg [aria-label*='level 4']").count() >= 1
    expect(detail.locator("tbody").last.locator("tr")).to_have_count(30)
    page.get_by_role("button", name="Show 200 more").click()
    expect(detail.locator("tbody").last.locator("tr")).to_have_count(120)
    expect(detail).to_contain_text("night-000")


def test_a_series_of_one_run_or_without_figures_is_told(visit, tmp_path):
    (entry,) = nights(1)
    figures = [replace(each, value=None if each.key.unit == "x" else each.value) for each in entry.figures]
    snapshot = snapshot_of([replace(entry, figures=tuple(figures))])
    write_site(snapshot, examine(snapshot), tmp_path / "short")
    page = visit(tmp_path / "short" / "index.html")
    page.wait_for_selector("html[data-shown] .chart svg")
    expect(page.locator("#detail svg [aria-roledescription=point]")).to_have_count(1)
    page.get_by_label("State", exact=True).select_option("no figures")
    page.locator("#all-series tbody tr:visible").first.get_by_role("link").click()
    expect(page.locator("#detail .chart")).to_have_text("No run has a figure here.")


def test_one_bad_night_does_not_flatten_the_others(visit, tmp_path):
    entries = nights(40)
    far = [replace(each, value=None if each.value is None else 50 * each.value) for each in entries[3].figures]
    entries[3] = replace(entries[3], figures=tuple(far))
    snapshot = snapshot_of(entries)
    write_site(snapshot, examine(snapshot), tmp_path / "far")
    page = visit(tmp_path / "far" / "index.html")
    page.wait_for_selector("html[data-shown] .chart svg")
    expect(page.locator("#detail")).to_contain_text("1 point lies far outside, on the chart's edge")
    expect(page.locator("#detail svg [aria-roledescription=point]")).to_have_count(40)


def test_data_that_are_gone_are_told(browser, pages, tmp_path):
    shutil.copytree(pages["site"].parent, tmp_path / "site")
    (tmp_path / "site" / "data" / "runs.js").unlink()
    page = browser.new_page()
    page.goto((tmp_path / "site" / "index.html").as_uri())
    expect(page.locator("#detail .notice")).to_have_text("data/runs.js cannot be loaded; write the site again")
    page.close()


def test_ten_thousand_runs_load_no_more_than_is_looked_at(visit, tmp_path):
    snapshot = snapshot_of(nights(10_000, {INT4: (7_000, 1.1)}))
    write_site(snapshot, examine(snapshot), tmp_path / "large")
    page = visit(tmp_path / "large" / "index.html")
    page.wait_for_selector("html[data-shown] .chart svg")
    loaded = page.evaluate("[...document.scripts].filter((each) => each.src).length")
    assert loaded == 2  # the runs, and one series
    page.locator("#detail").get_by_label("Runs").select_option(label="All runs")
    points = page.locator("#detail svg [aria-roledescription=point]")
    expect(page.locator("#detail svg [aria-label*='20, median']").first).to_be_attached()
    assert points.count() <= 520  # medians, as many as keep it quick
    expect(page.locator("#detail")).to_contain_text("Points, the newest first: 30 of 10000")


def test_the_commands_write_what_the_browser_shows(tmp_path, browser):
    path = save_record(full_record(), tmp_path / "runs")
    assert main(["report", str(path), "--out", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")]) == 0
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator("h1")).to_have_text("tiny-8m: 1 FAIL, 1 INCONCLUSIVE, 1 NO_BASELINE, 1 PASS")
    page.locator("summary", has_text="int8_wo: 1 of 2 differ").click()
    expect(page.locator("details[open] article mark").first).to_be_visible()
    url = f"sqlite:///{tmp_path}/history.sqlite"
    assert main(["history", "import", str(tmp_path / "runs"), "--history", url]) == 0
    assert main(["history", "--history", url, "--html", str(tmp_path / "site")]) == 0
    page.goto((tmp_path / "site" / "index.html").as_uri())
    expect(page.locator("h1")).to_have_text("History of 1 runs: no alerts")
    page.wait_for_selector("html[data-shown] .chart svg")
    page.close()
