"""What must be so of every run, and the faults that break it."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from enginegate.core.errors import ConfigError, EngineError
from enginegate.core.serving_records import SloEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival, ServingEvent
from enginegate.measure.serving.figures import figures, lateness
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, arrival_times, drawn, read_lengths, read_trace
from enginegate.measure.serving.timeline import MOCK_LAG, measured_part, run_of

COUNT = 40
TRACE = drawn("poisson", 4.0, COUNT, LengthPairs(((8, 10),)), seed=1)
ARRIVALS = [Arrival((1,) * 8, SamplingParams(10), time) for time in TRACE.times]
SERVER = MockServer(4, [0.2] * COUNT)


def run(events, **options):
    return run_of(TRACE, events, subject="toy", **options)


def broken(found):
    return {check.name for check in found.checks if check.reason}


def test_a_run_that_is_measured_rightly_breaks_nothing():
    found = run(SERVER.events(ARRIVALS), lag_limit=MOCK_LAG)
    assert broken(found) == set()
    assert {check.name for check in found.checks} == {"lag", "little", "tokens", "peak", "identity"}
    assert all(not math.isnan(check.value) for check in found.checks)


def test_a_generator_that_lags():
    late = [arrival.time + 0.02 for arrival in ARRIVALS]
    for limit in (MOCK_LAG, None):
        found = run(SERVER.events(ARRIVALS, sent=late), lag_limit=limit)
        assert "lag" in broken(found)
        assert "sent 20.00 ms late at the 99th percentile" in found.why_not[0]


def test_a_generator_whose_sleeps_add_up():
    # sleeping between requests instead of until each is due: every sleep is a little too long
    late = [arrival.time + 0.0005 * index for index, arrival in enumerate(ARRIVALS)]
    assert "lag" in broken(run(SERVER.events(ARRIVALS, sent=late)))


def test_a_generator_that_is_too_early():
    early = [arrival.time - 0.05 for arrival in ARRIVALS]
    assert "lag" in broken(run(SERVER.events(ARRIVALS, sent=early)))


def test_an_engine_that_miscounts_what_is_in_flight():
    events = [
        dataclasses.replace(event, in_flight=event.in_flight + 1 if event.in_flight else 0)
        for event in SERVER.events(ARRIVALS)
    ]
    assert broken(run(events)) == {"little"}


def test_an_engine_that_does_not_say_what_is_in_flight_is_not_checked_for_it():
    found = run([dataclasses.replace(event, in_flight=None) for event in SERVER.events(ARRIVALS)])
    assert broken(found) == set()
    assert math.isnan(next(check.value for check in found.checks if check.name == "little"))


def test_an_engine_whose_messages_are_taken_for_tokens():
    events = [
        dataclasses.replace(event, token_ids=event.token_ids[:1])
        for event in MockServer(4, [0.2] * 40, chunk=5).events(ARRIVALS)
    ]
    found = run(events)
    assert broken(found) == {"tokens"}
    assert "40 of 40 answers" in found.why_not[0]
    assert "request 0 has 2 of 10" in found.why_not[0]


def test_an_engine_that_holds_its_ends_back():
    later = []
    for event in SERVER.events(ARRIVALS):
        later.append(dataclasses.replace(event, time=event.time + 0.02) if event.kind == "finished" else event)
    found = run(sorted(later, key=lambda event: event.time))
    assert "identity" in broken(found)


def test_what_failed_is_late_whatever_it_took():
    events = [
        dataclasses.replace(event, reason="error") if event.kind == "finished" and event.request < 10 else event
        for event in SERVER.events(ARRIVALS)
    ]
    found = run(events, warmup=0.1)
    assert found.failed == dict.fromkeys(range(10), "error")
    assert lateness(found, SloEntry())[:6] == [math.inf] * 6
    assert figures(found, SloEntry()).failed == 6
    assert figures(found, SloEntry()).kept == pytest.approx(30 / 36)


def test_requests_that_never_end_are_late():
    events = [event for event in SERVER.events(ARRIVALS) if event.kind != "finished" or event.request != 7]
    found = run(events)
    assert found.failed == {7: "it never ended"}
    assert lateness(found, SloEntry(e2el=100))[7] == math.inf


def test_an_engine_that_answers_nothing():
    events = [ServingEvent(number, "sent", arrival.time) for number, arrival in enumerate(ARRIVALS)]
    found = run(events)
    assert len(found.failed) == COUNT
    said = figures(found, SloEntry())
    assert said.kept == 0
    assert said.percentiles == {}


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (ServingEvent(COUNT, "tokens", 100.0, (1,)), "told of request 40; there are 40"),
        (ServingEvent(0, "tokens", 100.0, (1,)), "again after it had finished"),
        (ServingEvent(0, "first", 100.0), "an event 'first'"),
        (ServingEvent(0, "sent", 0.0), "in the order of their times"),
        (ServingEvent(0, "sent", math.nan), "in the order of their times"),
    ],
)
def test_events_that_cannot_be(event, problem):
    events = SERVER.events(ARRIVALS)
    if event.kind == "first":
        events = [each for each in events if each.kind != "finished"]
    with pytest.raises(EngineError, match=problem):
        run([*events, event])


def test_requests_that_were_never_handed_in():
    events = [event for event in SERVER.events(ARRIVALS) if event.request < 35]
    with pytest.raises(EngineError, match="never handed in request 35, 36, 37 and 2 more of 40"):
        run(events)


def test_the_ends_of_a_run_are_not_measured():
    assert measured_part(100, 0.1, 0.2) == (10, 80)
    assert measured_part(1, 0.9, 0.9) == (0, 1)
    assert measured_part(3, 0.5, 0.9) == (2, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rate": 0}, "a rate of 0 requests a second is no load"),
        ({"rate": -1}, "a rate of -1"),
        ({"rate": math.nan}, "a rate of nan"),
        ({"count": 0}, "0 requests are no load"),
        ({"kind": "burst"}, "'burst' is no kind of arrivals"),
        ({"kind": "gamma", "burstiness": 0}, "a burstiness of 0"),
    ],
)
def test_loads_that_are_none(options, problem):
    asked = {"kind": "poisson", "rate": 1.0, "count": 5, "seed": 0, **options}
    with pytest.raises(ConfigError, match=problem):
        arrival_times(**asked)


GOOD = [{"time": 0.0, "input_len": 8, "output_len": 4}, {"time": 0.5, "input_len": 9, "output_len": 2, "priority": 3}]


def write(folder, rows, name="trace.jsonl"):
    path = folder / name
    if name.endswith(".csv"):
        keys = list(rows[0]) if rows else ["time", "input_len", "output_len"]
        lines = [",".join(keys), *(",".join(str(row[key]) for key in keys) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_trace_file_is_read_as_it_says(tmp_path):
    found = read_trace(write(tmp_path, GOOD))
    assert found.times == (0.0, 0.5)
    assert (found.input_lens, found.output_lens, found.priorities) == ((8, 9), (4, 2), (0, 3))
    assert (found.kind, found.rate) == ("trace", 2.0)
    rows = [{"time": 10 + row["time"], "input_len": 8, "output_len": 4} for row in GOOD]
    assert read_trace(write(tmp_path, rows, "trace.csv")).times == (0.0, 0.5)
    named = [{"timestamp": 1, "input_length": 3, "output_length": 4}]
    assert read_trace(write(tmp_path, named)).output_lens == (4,)


def changed(**values):
    return [GOOD[0], {**GOOD[1], **values}]


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.csv"])
@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "holds no request"),
        ([{**GOOD[0], "time": -1}], "row 1: the time -1 is negative"),
        ([*GOOD, {**GOOD[0], "time": 0.25}], "row 3: the time 0.25 is before the 0.5 of the row above"),
        ([GOOD[0], {**GOOD[0], "time": "soon"}], "row 2: time 'soon' is no number"),
        ([GOOD[0], {**GOOD[0], "input_len": 0}], "row 2: input_len is 0"),
        ([GOOD[0], {**GOOD[0], "output_len": 1.5}], "row 2: output_len 1.5 is no whole number"),
        ([{"time": 0, "input_len": 3}], "row 1 has no output_len; it has time, input_len"),
        ([GOOD[0], GOOD[0]], "all 2 requests come at the same time"),
    ],
)
def test_trace_files_that_cannot_be_used(tmp_path, name, rows, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        read_trace(write(tmp_path, rows, name))
    assert name in error.value.problem
    assert error.value.hint


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trace(tmp_path / "nowhere.jsonl")
    (tmp_path / "list.jsonl").write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 is no JSON object"):
        read_lengths(tmp_path / "list.jsonl")
    (tmp_path / "text.jsonl").write_text('{"input_len": 3, "output_len": 4}\nnonsense\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2 is no JSON"):
        read_lengths(tmp_path / "text.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_lengths(tmp_path / "bytes.jsonl")


def test_lengths_go_in_pairs_and_must_fit_the_engine(tmp_path):
    rows = [{"input_len": size, "output_len": 2 * size} for size in (5, 50, 500)]
    lengths = read_lengths(write(tmp_path, rows, "lengths.jsonl"))
    trace = drawn("poisson", 3.0, 200, lengths, seed=0)
    assert {*zip(trace.input_lens, trace.output_lens, strict=True)} == {(5, 10), (50, 100), (500, 1000)}
    lengths.refuse_too_long(500, 1000, "lengths.jsonl")
    with pytest.raises(ConfigError, match=r"lengths.jsonl: request 3 with 500 of 3 are over limits.max_input_len 256"):
        lengths.refuse_too_long(256, 1000, "lengths.jsonl")
    with pytest.raises(ConfigError, match=r"request 2 with 100, request 3 with 1000 of 3 are over limits.max_output"):
        lengths.refuse_too_long(500, 64, "lengths.jsonl")
