"""What changed in a history, whose changes are planted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from enginegate.storage.history import store
from enginegate.storage.history.entries import Entry, Note, Snapshot
from enginegate.storage.history.store import load
from enginegate.verdicts.history import Finding, examine, worse_when
from enginegate.verdicts.reproduce import bisect, reproduce, reservations

from tests_harness.storage.histories import CANDIDATES, nights

INT8, INT4, BF16 = CANDIDATES


@pytest.fixture
def examined(tmp_path):
    def of(entries: list[Entry], notes: list[Note] = ()) -> dict[tuple[str, str], list[Finding]]:
        url = f"sqlite:///{tmp_path}/history.sqlite"
        store.add(entries, url)
        store.annotate(url, notes)
        return {(each.series.key.engine, each.series.key.metric): list(each.findings) for each in examine(load(url))}

    return of


def test_one_slower_engine_is_told_from_a_slower_machine(examined):
    found = examined(nights(60, {INT4: (40, 1.15)}, versions=[(40, "openvino", "2026.5")]))
    assert {name for name, findings in found.items() if findings} == {(INT4, "latency"), (INT4, "speedup")}
    (latency,), (speedup,) = found[INT4, "latency"], found[INT4, "speedup"]
    assert (latency.before.id, latency.after.id) == ("night-039", "night-040")
    assert latency.shift.size == pytest.approx(0.15, abs=0.04)
    assert latency.shift.low < 0.15 < latency.shift.high
    assert (latency.worse, speedup.worse, latency.suspect, speedup.suspect) == (True, True, "engine", "engine")
    assert "the reference did not move along" in latency.control
    assert "0 of 2 other engines" in speedup.control
    assert speedup.own.size == pytest.approx(0.15, abs=0.04)
    assert latency.differences == (
        ("build", "key-2026.3", "key-2026.5"),
        ("engine libraries", "openvino 2026.3", "openvino 2026.5"),
        ("commit", "0000027", "0000028"),
        ("openvino", "", "2026.5"),
    )


def test_a_slower_machine_moves_times_and_no_ratio(examined):
    found = examined(nights(60, everything=(40, 1.15)))
    assert {metric for (_, metric), findings in found.items() if findings} == {"latency"}
    (latency,) = found[INT4, "latency"]
    assert latency.suspect == "machine"
    assert "the reference moved along" in latency.control
    assert "2 of 2 other engines moved along" in latency.control


def test_a_new_level_is_an_alert_after_three_nights_and_a_faster_one_is_none(examined):
    found = examined(nights(63, {INT4: (60, 1.15), INT8: (60, 1 / 1.15)}))
    (latency,) = found[INT4, "latency"]
    assert (latency.kind, latency.alert, latency.after.id) == ("new level", True, "night-060")
    assert 0 < latency.rate < 1e-3
    assert not any(each.alert or each.worse for each in found[INT8, "latency"])


def test_a_change_that_was_never_accepted_stays_an_alert_until_it_is_gone(tmp_path, examined):
    """Others roll the baseline forward: after a few nights nobody is told any more."""
    entries = nights(100, {INT4: (40, 1.15)})
    (latency,) = examined(entries)[INT4, "latency"]
    assert (latency.kind, latency.alert, latency.worse, latency.index) == ("change", True, True, 40)
    back = nights(100, {INT4: (40, 1.15)}, seed=1)[:70] + nights(100, seed=2)[70:]
    store.add(back, url := f"sqlite:///{tmp_path}/back.sqlite")
    one = next(
        each for each in examine(load(url)) if (each.series.key.engine, each.series.key.unit) == (INT4, "seconds")
    )
    assert [(each.index, each.worse, each.alert) for each in one.findings] == [(40, True, False), (70, False, False)]


@pytest.mark.parametrize("age", [4, 5, 7, 9, 12])
def test_a_young_change_is_one_finding_and_an_alert(examined, age):
    (latency,) = examined(nights(60 + age, {INT4: (60, 1.15)}))[INT4, "latency"]
    assert latency.alert
    assert abs(latency.index - 60) <= 1


def test_a_known_change_is_no_alert_and_moves_the_anchor(tmp_path, examined):
    entries = nights(64, {INT4: (60, 1.15)})
    digest = entries[0].figures[3].key.digest
    assert entries[0].figures[3].key.engine == INT4
    (latency,) = examined(entries, [Note(digest, "night-060", "a kernel by intention", "2026")])[INT4, "latency"]
    assert (latency.alert, latency.reason) == (False, "a kernel by intention")
    one = next(each for each in examine(load(f"sqlite:///{tmp_path}/history.sqlite")) if each.series.digest == digest)
    assert one.anchor == 60


def test_a_slow_drift_shows_against_the_anchor(examined):
    """Each night a little: a baseline that rolls forward would hide it."""
    entries = nights(120, noise=0.02, seed=0)

    def drifting(entry: Entry, night: int) -> Entry:
        figures = [
            replace(each, value=each.value * 1.0002**night)
            if (each.key.engine, each.key.metric) == (BF16, "latency")
            else each
            for each in entry.figures
        ]
        return replace(entry, figures=tuple(figures))

    found = examined([drifting(entry, night) for night, entry in enumerate(entries)])
    told = found[BF16, "latency"]
    assert told
    assert all(each.worse for each in told)
    assert [(each.kind, each.alert) for each in told] == [("drift", True)]
    assert (told[0].before.id, told[0].after.id) == ("night-019", "night-100")
    assert told[0].shift.low < 1.0002**100 - 1 < told[0].shift.high
    assert "the reference did not move along" in told[0].control


def test_a_short_or_empty_series_has_no_changes(examined):
    assert not any(examined(nights(5)).values())
    assert examine(Snapshot({}, {}, ())) == []


def test_figures_that_are_no_numbers_are_left_out(examined):
    entries = nights(60, {INT4: (40, 1.15)})
    gap = replace(entries[10], figures=tuple(replace(each, value=None) for each in entries[10].figures))
    (latency,) = examined([*entries[:10], gap, *entries[11:]])[INT4, "latency"]
    assert latency.index == 40
    assert latency.after.id == "night-040"


@pytest.mark.parametrize(
    ("metric", "unit", "expected"),
    [
        ("latency", "seconds", 1), ("peak_memory", "bytes", 1), ("throughput", "tokens/s", -1), ("speedup", "x", -1),
        ("serving_goodput", "requests/s", -1),
        ("perplexity.perplexity", "score", 1), ("divergence.kld", "score", 1), ("cloze.accuracy", "score", -1),
        ("summaries.rouge1", "score", -1), ("track", "unit", 0),
    ],
)  # fmt: skip
def test_which_way_is_worse(metric, unit, expected):
    assert worse_when(metric, unit) == expected


def test_an_alert_has_a_line_that_shows_it_again_and_one_that_searches(examined):
    (latency,) = examined(nights(63, {INT4: (60, 1.15)}))[INT4, "latency"]
    chosen = "--model tiny-8m --engine openvino --precision int4_awq --batch-size 1"
    assert reproduce(latency) == f"enginegate duet --base git:000003b --head git:000003c {chosen}"
    assert bisect(latency).startswith("enginegate history bisect 000003b 000003c --size 1")
    assert bisect(latency).endswith(f"% {chosen}")
    assert reservations(latency) == []
    same = replace(latency, after=replace(latency.after, commit="000003b-dirty"))
    assert reproduce(same) == f"enginegate duet --base python:ENVIRONMENT-BEFORE {chosen}"
    assert bisect(same) == ""
    assert "changes that are in no commit" in reservations(same)[0]
