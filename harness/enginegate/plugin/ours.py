"""Which tests are enginegate's own: those that get its fixtures, whatever other projects call theirs.

``candidate``, ``batch_size`` and ``gate`` are names that anybody's fixtures may have. Ours are recognized by what they
need: fixtures of the names below, which pytest lists among a test's ``fixturenames`` only where the ``candidate``,
``batch_size`` or ``gate`` that the test gets is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from enginegate.core.errors import EngineGateError
from enginegate.plugin.replay import REPLAYED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enginegate.plan.plan import PlannedTest
    from enginegate.plan.selection import Candidate, Selection

CANDIDATE, BATCH_SIZE, GATE, REPLAY = "eg_candidate", "eg_batch_size", "eg_gate", "eg_replay"
#: A task of lm-evaluation-harness that the engine's configuration names.
TASK = "eg_task"
#: An engine with a KV cache of less than 16 bits, and the same with 16.
KV_PAIR = "eg_kv_pair"
#: What one gate of an engine's scaling reads: throughput over batch sizes, or inter-token latency over lengths.
BATCHES, LENGTHS = "eg_batch_series", "eg_length_series"
#: pytest-benchmark's plugin and fixture, which need not be there.
BENCHMARK = "benchmark"

MARKERS = (
    "eg_perf: times engines or measures their memory",
    "eg_quality: scores what engines answer",
    "eg_gpu: needs an NVIDIA GPU",
    "eg_timed(metric): the speed metric that the test judges: speedup, ttft or itl",
    "eg_against: compares with a live base; is not there without --eg-against",
    "eg_audit: measures the gates' own error rates; runs under --eg-gate-audit alone",
    "eg_gates(n): how many error-rated gates the test holds (default 1); they share the session's error budget",
)

_BEGUN = pytest.StashKey[bool]()


def needs(item: pytest.Item, fixture: str) -> bool:
    """Whether a test gets one of our fixtures, by the names above."""
    return fixture in getattr(item, "fixturenames", ())


def parameter(item: pytest.Item, fixture: str) -> Any:
    """The value that a test was parametrized with, or None."""
    return item.callspec.params.get(fixture) if hasattr(item, "callspec") else None


def gate_count(item: pytest.Item) -> int:
    """How many error-rated gates a test holds; one that is skipped for what was asked holds none."""
    if not needs(item, GATE) or item.get_closest_marker("skip"):
        return 0
    marker = item.get_closest_marker("eg_gates")
    return int(marker.args[0]) if marker else 1


def parametrize(metafunc: pytest.Metafunc, selection: Selection | EngineGateError, live: bool = False) -> None:
    """One test for each selected engine, and for each batch size or task of lm-eval where the test asks for one.

    ``live``: each engine is raced against a live base, in launches that serve all batch sizes.

    Where nothing can be selected, one that fails with the reason (see ``why_unselected``); where no task is named, one
    that is skipped (see ``without_untasked``).
    """
    if TASK in metafunc.fixturenames:
        _parametrize_tasks(metafunc, selection)
        return
    for fixture, cases_of in ((KV_PAIR, _kv_cases), (BATCHES, _batch_cases), (LENGTHS, _length_cases)):
        if fixture in metafunc.fixturenames:
            _parametrize_by(metafunc, fixture, selection, cases_of)
            return
    timed = BATCH_SIZE in metafunc.fixturenames
    cases: list[Any] = []
    if isinstance(selection, EngineGateError):
        cases.append(pytest.param(*[selection] * (2 if timed else 1), id="nothing-selected"))
        metafunc.parametrize((CANDIDATE, BATCH_SIZE) if timed else CANDIDATE, cases, indirect=True)
        return
    for candidate in selection.candidates:
        if not timed:
            group = pytest.mark.xdist_group(candidate.id)
            cases.append(pytest.param(candidate, id=candidate.id, marks=group))
            continue
        for size in selection.batch_sizes[candidate.config.name]:
            # What races in one arena belongs to one worker, which has one device.
            group = pytest.mark.xdist_group(candidate.config.name + ("" if live else f"-b{size}"))
            cases.append(pytest.param(candidate, size, id=f"{candidate.id}-b{size}", marks=group))
    metafunc.parametrize((CANDIDATE, BATCH_SIZE) if timed else CANDIDATE, cases, indirect=True)


def _parametrize_tasks(metafunc: pytest.Metafunc, selection: Selection | EngineGateError) -> None:
    cases: list[Any] = []
    if isinstance(selection, EngineGateError):
        cases.append(pytest.param(selection, selection, id="nothing-selected"))
    else:
        for candidate in selection.candidates:
            group = pytest.mark.xdist_group(candidate.id)
            for task in candidate.config.file.quality.lm_eval.tasks:
                cases.append(pytest.param(candidate, task, id=f"{candidate.id}-{task}", marks=group))
        if not cases:
            reason = "no configuration names a task of lm-evaluation-harness under quality.lm_eval.tasks"
            cases.append(pytest.param(selection.candidates[0], None, id="no-task", marks=pytest.mark.skip(reason)))
    metafunc.parametrize((CANDIDATE, TASK), cases, indirect=True)


def _parametrize_by(
    metafunc: pytest.Metafunc,
    fixture: str,
    selection: Selection | EngineGateError,
    cases_of: Callable[[Candidate], list[Case]],
) -> None:
    """One test for each case of each engine; one for which there is a reason is skipped with it."""
    if isinstance(selection, EngineGateError):
        found = [pytest.param(selection, selection, id="nothing-selected")]
    else:
        found = [
            pytest.param(
                candidate,
                case.value,
                id=f"{candidate.id}-{case.name}",
                marks=[
                    pytest.mark.xdist_group(candidate.config.name),
                    *([pytest.mark.skip(case.absent)] if case.absent else []),
                ],
            )
            for candidate in selection.candidates
            for case in cases_of(candidate)
        ]
    metafunc.parametrize((CANDIDATE, fixture), found, indirect=True)


@dataclass(frozen=True)
class Case:
    """One test of an engine. ``absent``: why it is skipped; empty where it runs."""

    name: str
    value: object
    absent: str = ""


def _kv_cases(candidate: Candidate) -> list[Case]:
    from enginegate.plan.kv_cache import kv_pairs

    pairs = [Case(f"kv_{pair.precision}", pair, pair.absent) for pair in kv_pairs(candidate)]
    own = f"{candidate.id} asks for a KV cache in {candidate.runtime.kv_precision} itself"
    return pairs or [Case("kv", None, own)]


def _batch_cases(candidate: Candidate) -> list[Case]:
    from enginegate.plan.scaling import throughput_series

    few = "limits.max_batch_size leaves one batch size: there is nothing to double"
    return [Case(each.name, each, "" if each.steps else few) for each in throughput_series(candidate)]


def _length_cases(candidate: Candidate) -> list[Case]:
    from enginegate.plan.scaling import itl_series

    few = "scaling has one input and one output length: there is nothing to double"
    return [Case(each.name, each, "" if each.steps else few) for each in itl_series(candidate)]


#: Marks what compares with a live base, and nothing else.
AGAINST = "eg_against"


def without_baseless(items: object, config: pytest.Config) -> object:
    """What was collected of a function, without tests of a live base where none is named."""
    if not isinstance(items, list) or config.getoption("eg_against", ""):
        return items
    return [item for item in items if not isinstance(item, pytest.Item) or item.get_closest_marker(AGAINST) is None]


def without_untasked(items: object, named: bool) -> object:
    """What was collected of a function, without the test that has no task of lm-eval, unless its file was named.

    Whoever runs all tests and uses no tasks sees nothing of them; whoever asks for these alone is told why none runs.
    """
    if named or not isinstance(items, list):
        return items
    return [item for item in items if not needs(item, TASK) or parameter(item, TASK) is not None]


def why_unselected(item: pytest.Item) -> EngineGateError | None:
    """Why a test of ours has no engine: nothing could be selected. None for any other test."""
    value = parameter(item, CANDIDATE)
    return value if isinstance(value, EngineGateError) else None


def planned_test(item: pytest.Item) -> Iterator[PlannedTest]:
    """What the plan must know of a test that gates or audits an engine; nothing of any other."""
    from enginegate.plan.plan import PlannedTest

    candidate: Candidate | None = parameter(item, CANDIDATE)
    if candidate is None or not (needs(item, GATE) or item.get_closest_marker("eg_audit")):
        return
    batch_size, timed = parameter(item, BATCH_SIZE), item.get_closest_marker("eg_timed")
    yield PlannedTest(
        test=item.nodeid,
        candidate=candidate,
        workload=None if batch_size is None else candidate.config.workload(batch_size),
        metric=timed.args[0] if timed else None,
        gates=gate_count(item),
        quality=item.get_closest_marker("eg_quality") is not None,
    )


def show_to_benchmark(item: pytest.Item, timer: object) -> None:
    """Have pytest-benchmark, where it is there, take the samples of a timed test from ``timer``."""
    timed = item.get_closest_marker("eg_timed")
    if timed is None or not needs(item, REPLAY) or not item.config.pluginmanager.hasplugin(BENCHMARK):
        return
    item.add_marker(pytest.mark.benchmark(timer=timer, group=timed.args[0]))
    item.config.stash.setdefault(REPLAYED, set()).add(item.nodeid)
    names: list[str] = item.fixturenames  # type: ignore[attr-defined]
    if BENCHMARK not in names:
        names.append(BENCHMARK)  # --benchmark-only and --benchmark-skip look for it there


def begins_again(item: pytest.Item) -> bool:
    """Whether this is another attempt at a test, as pytest-rerunfailures makes them. Asked once an attempt."""
    again = item.stash.get(_BEGUN, False)
    item.stash[_BEGUN] = True
    return again


def run_again_alone(config: pytest.Config, items: Sequence[pytest.Item]) -> str | None:
    """What the reader must know where ``--lf`` runs tests that failed in an earlier session; else None."""
    if not config.getoption("lf", False) or config.cache is None:
        return None
    failed = config.cache.get("cache/lastfailed", {})
    again = [item.nodeid for item in items if item.nodeid in failed]
    if not again:
        return None
    count = (
        "1 test failed in an earlier session and is"
        if len(again) == 1
        else f"{len(again)} tests failed in an earlier session and are"
    )
    more = f" and {len(again) - 3} more" if len(again) > 3 else ""
    return (
        f"{count} run again alone (--lf): {', '.join(again[:3])}{more}; "
        "a gate's error rates hold for one attempt, not for the best of several"
    )
