"""Gates of serving, from the runs of a record."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from enginegate.core.errors import MeasurementError, RecordError
from enginegate.core.serving_records import LoadEntry, ServingEntry, SloEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.serving import SloPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.measure.serving.mock import MockServer
from enginegate.measure.serving.schedule import LengthPairs, drawn
from enginegate.measure.serving.timeline import run_of
from enginegate.storage.serving import serving_problem
from enginegate.verdicts.inputs import LevelInputs, ServedInputs, SloInputs
from enginegate.verdicts.judge import judge

COUNT = 150
SLO = SloEntry(e2el=0.5, share=0.8)
LOAD = LoadEntry(kind="poisson", rate=4.0, requests=COUNT, seed=0, input_len=8, output_len=4)


def run(service=0.1, number=0, servers=2, lag=0.0, **options):
    trace = drawn("poisson", 4.0, COUNT, LengthPairs(((8, 4),)), seed=number)
    arrivals = [Arrival((1,) * 8, SamplingParams(4), time) for time in trace.times]
    events = MockServer(servers, [service] * COUNT).events(arrivals, [time + lag for time in trace.times])
    return run_of(trace, events, subject="toy", warmup=0.1, cooldown=0.1, **options)


def entry(head, base=(), failure=""):
    return ServingEntry(
        engine="toy-head",
        load=LOAD,
        slo=SLO,
        runs=list(head),
        base="toy-base" if base else "",
        base_runs=list(base),
        failure=failure,
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """As much of a record as these gates read."""

    serving: list
    shards: None = None


def slo(found, **changed):
    inputs = SloInputs(
        metric="slo", candidate="toy-head", subject="head", policy=SloPolicy(0.8), foreign_load_limit=0.1
    ).model_copy(update=changed)
    return judge(inputs, Record([found]))


def served(found, latency="e2el", base="toy-base"):
    policy = SpeedPolicy(margin=0.05, tolerated=0.2, alpha=0.002, looks=(4,), shift=ShiftPrior(0.05, 4.0))
    inputs = ServedInputs(
        metric=f"serving_{latency}",
        candidate="toy-head",
        subject="head",
        latency=latency,
        base=base,
        label="base" if base else "",
        policy=policy,
        foreign_load_limit=0.1,
    )
    return judge(inputs, Record([found]))


def level(found, base="toy-base"):
    policy = QualityPolicy(alpha=0.01, visible=0.05)
    inputs = LevelInputs(
        metric="serving_level",
        candidate="toy-head",
        subject="head",
        base=base,
        policy=policy,
        foreign_load_limit=0.1,
    )
    return judge(inputs, Record([found]))


def pairs(head, base=0.1, **options):
    return entry([run(head, number, **options) for number in range(4)], [run(base, number) for number in range(4)])


def test_the_service_level():
    assert slo(entry([run()])).status == "PASS"
    late = slo(entry([run(1.2, servers=8)]))
    assert late.status == "FAIL"
    assert "0 of 120 requests keep E2EL <= 0.5 s" in late.explanation


def test_others_make_requests_late_and_never_in_time():
    assert slo(entry([run(1.2, servers=8, foreign_load=0.5)])).status == "INCONCLUSIVE"
    kept = slo(entry([run(foreign_load=0.5)]))
    assert kept.status == "PASS"
    assert "other work took 50% of the machine" in kept.warnings


def test_nothing_is_concluded_from_a_run_that_breaks_an_invariant():
    broken = entry([run(lag=0.02)])
    assert slo(broken).status == "INCONCLUSIVE"
    assert "the load generator lagged" in slo(broken).explanation
    both = pairs(0.3, lag=0.02)
    assert served(both).status == level(both).status == "INCONCLUSIVE"


def test_pairs_beside_other_work_decide_nothing():
    found = pairs(0.3, foreign_load=0.4)
    busy = found.model_copy(update={"base_runs": [run(0.1, number, foreign_load=0.3) for number in range(4)]})
    assert served(found).status == "FAIL"  # half of the runs had the machine to themselves
    assert served(busy).status == level(busy).status == "INCONCLUSIVE"
    assert "other work took 35% of the machine in 8 of 8 runs" in served(busy).explanation


@pytest.mark.parametrize(("service", "status"), [(0.1, "PASS"), (0.15, "FAIL")])
def test_latencies_beside_a_base_that_served_the_same_traces(service, status):
    found = pairs(service)
    for latency in ("ttft", "tpot", "e2el"):
        verdict = served(found, latency)
        assert verdict.status == status, verdict.explanation
        assert verdict.samples == 4
    assert np.isclose(served(found, "tpot").estimate, 0.1 / service)


def test_the_level_beside_a_base():
    same, worse = pairs(0.1), pairs(0.9, servers=8)
    assert level(same).status == "PASS"
    assert level(worse).status == "FAIL"
    assert level(worse).unit == "share"


def test_without_a_base_there_is_nothing_to_compare_with():
    alone = entry([run()])
    assert served(alone, base=None).status == "NO_BASELINE"
    assert level(alone, base=None).status == "NO_BASELINE"


def test_what_broke_off_is_an_error_and_no_verdict():
    with pytest.raises(MeasurementError, match="the library fell over"):
        served(entry([run()], [run()], failure="the library fell over"))
    with pytest.raises(MeasurementError, match="the library fell over"):
        slo(entry([], failure="the library fell over"))
    with pytest.raises(RecordError, match="holds 0 entries for serving of toy-head"):
        judge(
            SloInputs(metric="slo", candidate="toy-head", subject="", policy=SloPolicy(), foreign_load_limit=0.1),
            Record([]),
        )


def test_damaged_entries_are_found():
    whole = run()
    assert serving_problem([entry([whole], [whole])]) is None
    for changed, said in (
        ({"sent": whole.sent[:-1]}, "150 requests and 149 values of sent"),
        ({"end": 151}, "measures those from 15 to 151"),
        ({"begin": 140}, "measures those from 140 to 135"),
        ({"failed": {150: "error"}}, "a failed one beyond them"),
    ):
        assert said in serving_problem([entry([whole.model_copy(update=changed)])])
    assert "1 runs beside 2 of its base" in serving_problem([entry([whole], [whole, whole])])
