"""How verdicts show in pytest: on the test's report, in its outcome letter, in JUnit XML and in the summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import SkipTest

import pytest

from enginegate.core.errors import EngineGateError, MeasurementError
from enginegate.plugin.ours import CANDIDATE, GATE, needs, parameter
from enginegate.plugin.workers import plain_id

if TYPE_CHECKING:
    from enginegate.gates.verdict import Verdict
    from enginegate.session.gate_session import GateSession

VERDICTS = pytest.StashKey["list[Verdict]"]()
#: Gates that were asked and have given no verdict, with what they raised instead.
_OPEN = pytest.StashKey["list[str]"]()
#: How many verdicts and open questions there were when the test's own function, or a set-up that raised, had ended;
#: absent before.
_JUDGED = pytest.StashKey[tuple[int, int]]()
#: pytest shows an AssertionError that begins like this by its text alone, which ``explain`` then fills in.
_ASSERTION = "assert verdict"
#: Name of the report property that carries the statuses, also across xdist.
PROPERTY = "enginegate_verdict"
#: Statuses that let a test pass but must not be read as a pass: category, letter, word.
OTHER = {"INCONCLUSIVE": ("inconclusive", "I", "INCONCLUSIVE"), "NO_BASELINE": ("no baseline", "N", "NO BASELINE")}


class NotTested(pytest.skip.Exception):  # type: ignore[name-defined,misc]
    """The suite itself skips a test, and says why."""

    nothing_to_test = True  # whatever the machine: options that make skips fail leave it alone
    __module__ = "builtins"  # as pytest's own: shown without it


def skip(reason: str) -> NoReturn:
    """Skip a test for a reason of the suite's own, such as an engine that is the reference itself."""
    __tracebackhide__ = True  # the place is the caller's
    raise NotTested(reason)


@contextmanager
def ask(item: pytest.Item, gate: str) -> Iterator[None]:
    """A gate is being asked; where this raises, the question stays open whatever the test makes of the error."""
    questions = item.stash.setdefault(_OPEN, [])
    questions.append(f"gate.{gate} has not answered")
    try:
        yield
    except Exception as error:
        questions[-1] = f"gate.{gate} could not judge: {first_line(error)}"
        raise
    questions.pop()


def expect(item: pytest.Item) -> None:
    """A test has got a gate, so a verdict is expected of it."""
    item.stash.setdefault(VERDICTS, [])


def keep(item: pytest.Item, verdict: Verdict) -> None:
    """Remember a verdict of a test, and put it among the properties that its reports carry to JUnit XML and xdist."""
    item.stash.setdefault(VERDICTS, []).append(verdict)
    item.user_properties.extend(_properties(verdict).items())


def _properties(verdict: Verdict) -> dict[str, Any]:
    return {
        PROPERTY: verdict.status.value,
        f"{verdict.metric}": verdict.estimate,
        f"{verdict.metric}_interval": f"[{verdict.interval[0]:.6g}, {verdict.interval[1]:.6g}]",
        f"{verdict.metric}_explanation": verdict.explanation,
    }


def set_aside(item: pytest.Item, session: GateSession) -> None:
    """A test runs again: its last attempt's verdicts, and how it ended, no longer count; the record keeps them."""
    ours = {name for verdict in item.stash.get(VERDICTS, []) for name in _properties(verdict)}
    item.user_properties[:] = [each for each in item.user_properties if each[0] not in ours]
    keys: tuple[pytest.StashKey[Any], ...] = (VERDICTS, _OPEN, _JUDGED)
    for key in keys:
        if key in item.stash:
            del item.stash[key]
    candidate = parameter(item, CANDIDATE)
    if candidate is not None:
        session.set_aside(candidate.config.name, plain_id(item))


def refused(item: pytest.Item) -> list[Verdict]:
    """The verdicts of a test that do not let it pass."""
    return [verdict for verdict in item.stash.get(VERDICTS, []) if not verdict]


def has_ended(item: pytest.Item) -> None:
    """Note that the test's own function, or a set-up that raised, has ended: what is asked from here on is late."""
    item.stash[_JUDGED] = (len(item.stash.get(VERDICTS, [])), len(item.stash.get(_OPEN, [])))


def why_not_passed(item: pytest.Item, call: pytest.CallInfo[None]) -> Exception | None:
    """Why a gated test must not pass after a phase, however that ended; None where it may.

    Whether a test asserts its verdicts, catches what ``assert`` raises, is expected to fail or runs under ``python -O``
    makes no difference: a verdict that does not let it pass fails it, and so does a question that was not answered. A
    test whose function has begun needs a verdict. Before that, a mark or a fixture may skip it, and within it the suite
    alone may.
    """
    if not needs(item, GATE) and VERDICTS not in item.stash:
        return None
    error = None if call.excinfo is None else call.excinfo.value
    if call.when == "teardown":
        return _why_late(item, error)
    if call.when == "call" and _JUDGED not in item.stash:
        return None  # a subtest: the test goes on
    if call.when == "setup" and error is None:
        return None
    if refused(item):
        return AssertionError(_ASSERTION)
    if item.stash.get(_OPEN, []):
        return _without_verdict(item.stash[_OPEN][0], error)
    if item.stash.get(VERDICTS, []) or isinstance(error, NotTested) or (call.when == "setup" and _skips(error)):
        return None
    return _without_verdict("no gate was asked", error)


def _why_late(item: pytest.Item, error: BaseException | None) -> Exception | None:
    """Likewise of what was asked while fixtures ended; earlier phases have told the rest."""
    if _JUDGED not in item.stash:
        return None
    verdicts, questions = item.stash[_JUDGED]
    if not all(item.stash.get(VERDICTS, [])[verdicts:]):
        return AssertionError(_ASSERTION)
    unanswered = item.stash.get(_OPEN, [])[questions:]
    return _without_verdict(unanswered[0], error) if unanswered else None


def _without_verdict(problem: str, error: BaseException | None) -> MeasurementError:
    """The error of a gated test that ended without a verdict."""
    if error is not None:
        problem += f", and it ended by {type(error).__name__}: {first_line(error)}"
    hint = "assert what gate.… returns; to skip the test, use a mark or a fixture, before it begins"
    if not __debug__:
        hint += "; python -O leaves assert statements out: run without -O, or with pytest's --assert=rewrite"
    return MeasurementError(f"a gated test needs a verdict: {problem}", hint)


def _skips(error: BaseException | None) -> bool:
    """Whether pytest takes an exception for something other than a failure."""
    return isinstance(error, pytest.skip.Exception | pytest.xfail.Exception | SkipTest)


def fail(call: pytest.CallInfo[None], failure: Exception) -> None:
    """Where a phase did not raise, or raised to be skipped, have pytest and its plugins see the failure instead."""
    if call.excinfo is None or _skips(call.excinfo.value):
        call.excinfo = _info(failure)


def insist(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None], failure: Exception) -> None:
    """Nothing makes a pass of it, neither a mark that expects failures nor another plugin; and it has no traceback."""
    ours = call.excinfo is not None and call.excinfo.value is failure
    if report.failed and not ours:
        return
    found = call.excinfo if call.excinfo is not None and ours else _info(failure)
    explain(item, found.value)
    report.outcome = "failed"
    vars(report).pop("wasxfail", None)
    report.longrepr = found.getrepr(style="value", chain=False)


def _info(failure: Exception) -> pytest.ExceptionInfo[BaseException]:
    """As if it had been raised here: pytest wants a traceback."""
    try:
        raise failure
    except Exception as raised:
        return pytest.ExceptionInfo.from_exception(raised)


def explain(item: pytest.Item, error: BaseException) -> None:
    """Have a failed ``assert verdict`` say what the verdict says, in place of the values in the expression.

    Its warnings, which many tests share, are in the report at the session's end and in the record.
    """
    if isinstance(error, AssertionError) and refused(item):
        error.args = ("\n".join(f"{verdict.status.value}: {verdict.explanation}" for verdict in refused(item)),)


def error_reason(item: pytest.Item, error: BaseException) -> str | None:
    """How a test of an engine ended, for the record, where its verdicts do not say that; None where they do."""
    if refused(item) or not needs(item, CANDIDATE):
        return None
    how = "failed beside its verdict" if item.stash.get(VERDICTS, []) else "ended without a verdict"
    return f"{how}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Of an error's text; its kind where it has none."""
    return str(error).partition("\n")[0] or type(error).__name__


def shorten(report: pytest.TestReport, item: pytest.Item, failure: pytest.ExceptionInfo[BaseException]) -> None:
    """A FAIL's sentence, or an error of the suite's own with its hint, says all: no traceback, unless asked for."""
    told = isinstance(failure.value, EngineGateError) or (
        isinstance(failure.value, AssertionError) and bool(refused(item))
    )
    if told and item.config.getoption("tbstyle", "auto") == "auto":
        report.longrepr = failure.getrepr(style="value", chain=False)


def outcome_of(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """The outcome of a passed test whose verdict is not a PASS."""
    if report.when != "call" or not report.passed:
        return None
    statuses = [value for name, value in report.user_properties if name == PROPERTY]
    for status, (category, letter, word) in OTHER.items():
        if status in statuses:
            return category, letter, (word, {"yellow": True})
    return None


def report_withdrawn(config: pytest.Config, session: GateSession) -> None:
    """Report each engine whose speed PASS is withdrawn as a failed test of its own."""
    for entry in session.joint():
        if entry.status == "PASS":
            continue
        name = f"joint[{entry.engine}]"
        report = pytest.TestReport(
            nodeid=f"enginegate::{name}",
            location=("enginegate", None, name),
            keywords={},
            outcome="failed",
            longrepr=f"FAIL: {entry.explanation}",
            when="call",
            user_properties=[(PROPERTY, "FAIL")],
        )
        config.hook.pytest_runtest_logreport(report=report)
