"""Tests that ask a gate and end in some way: in an inner pytest with the plugin's hooks, and a gate that answers."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import enginegate.plugin as plugin
import pytest
from enginegate.core.records import VerdictEntry
from enginegate.gates.resources import judge_size
from enginegate.gates.verdict import Status, Verdict
from enginegate.plugin.outcomes import ask, expect, keep
from enginegate.plugin.termination import LastWord
from enginegate.session.gate_session import GateSession
from enginegate.storage.accept import check_acceptable
from enginegate.storage.summary import reruns
from field_case import Got, attempt, case

KIND = "fail-open: gated test"
#: A module of one name is imported once.
_NUMBER = itertools.count()
IMPORTS = "import contextlib, unittest, pytest\n"


class Gate:
    """Answers with whatever verdict it is told to."""

    def __init__(self, item: pytest.Item) -> None:
        expect(item)
        self._item = item

    def size(self, status: str = "FAIL") -> Verdict:
        """A verdict of this status; ``broken`` raises instead."""
        with ask(self._item, "size"):
            if status == "broken":
                raise ValueError("broken")
            value, baseline = (2e9, 1e9) if status == "FAIL" else (1e9, 1e9)
            verdict = judge_size(value, baseline)
            if status == "accepted":
                verdict = judge_size(value, None).accept()
            elif status not in ("FAIL", "PASS"):
                verdict = Verdict(**{**vars(verdict), "status": Status(status)})
            keep(self._item, verdict)
            return verdict


class Hooks:
    """The hooks that decide how a test ended, and what they tell."""

    pytest_runtest_call = staticmethod(plugin.pytest_runtest_call)
    pytest_runtest_makereport = staticmethod(plugin.pytest_runtest_makereport)

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """The session that is told of errors."""
        config.stash[plugin.SESSION] = SimpleNamespace(record_error=lambda *_: None)  # type: ignore[assignment]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports."""
        self.reports.append(report)

    @pytest.fixture
    def eg_gate(self, request: pytest.FixtureRequest) -> Gate:
        """As the suite calls its own."""
        return Gate(request.node)

    @pytest.fixture
    def gate(self, eg_gate: Gate) -> Gate:
        """What a test asks."""
        return eg_gate

    @pytest.fixture
    def verdict(self, gate: Gate) -> Verdict:
        """A FAIL before the test begins."""
        return gate.size()

    @pytest.fixture
    def late(self, gate: Gate) -> Iterator[None]:
        """A FAIL after the test has ended."""
        yield
        gate.size()

    @pytest.fixture
    def late_broken(self, gate: Gate) -> Iterator[None]:
        """An error instead of an answer after the test has ended, which nobody sees."""
        yield
        with contextlib.suppress(ValueError):
            gate.size("broken")

    @pytest.fixture
    def skips(self) -> None:
        """Not today."""
        pytest.skip("no time")


def run_inner(folder: Path, text: str, *options: str) -> Got:
    """How a file's one test ended: ``failed``, ``error``, ``skipped``, ``xfailed`` or ``passed``, with its text."""
    file = folder / f"test_inner_{next(_NUMBER)}.py"
    file.write_text(IMPORTS + text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    hooks = Hooks()
    arguments = [str(file), "-s", "-pno:cacheprovider", "--import-mode=importlib", "--tb=short", f"--rootdir={folder}"]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    with patch.dict(os.environ, environment), contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*arguments, "-c", str(folder / "pytest.ini"), *options], plugins=[hooks])
    worst = next((report for report in hooks.reports if report.failed), None)
    if worst is not None:
        return Got("failed" if worst.when == "call" else "error", worst.longreprtext)
    if not hooks.reports:
        return Got("no report")
    if any(hasattr(report, "wasxfail") for report in hooks.reports):
        return Got("xfailed")
    return Got("skipped" if any(report.skipped for report in hooks.reports) else "passed")


def _enter(name: str, given: str, expected: str, text: str, *says: str, options: tuple[str, ...] = ()) -> None:
    def run(folder: Path) -> Got:
        return run_inner(folder, text, *options)

    run.__name__ = f"gated_{name}"
    case(given, kind=KIND, expected=expected, says=says)(run)


SAID = "FAIL: 1907.3 MiB, baseline 953.7 MiB"
NONE = "a gated test needs a verdict"


def _body(*lines: str, arguments: str = "gate", before: str = "") -> str:
    return f"{before}\ndef test_it({arguments}):\n" + "".join(f"    {line}\n" for line in lines)


_enter("asserted", "a FAIL, asserted", "failed", _body("assert gate.size()"), SAID)
_enter("ignored", "a FAIL, not asserted", "failed", _body("gate.size()"), SAID)
_enter("plain", "a FAIL under --assert=plain", "failed", _body("gate.size()"), SAID, options=("--assert=plain",))
_enter("returned", "a FAIL, returned", "failed", _body("return gate.size()"), SAID)
_enter("looked_at", "a FAIL, `if verdict: pass`", "failed", _body("if gate.size():", "    pass"), SAID)
_enter("negated", "a FAIL, `assert not verdict`", "failed", _body("assert not gate.size()"), SAID)
CAUGHT = ("with contextlib.suppress(AssertionError):", "    assert gate.size()")
_enter("caught", "a FAIL, its assertion caught", "failed", _body(*CAUGHT), SAID)
RAISES = ("with pytest.raises(AssertionError):", "    assert gate.size()")
_enter("raises", "a FAIL within pytest.raises", "failed", _body(*RAISES), SAID)
XFAIL = "@pytest.mark.xfail(reason='known')"
_enter("xfail", "a FAIL, asserted, xfail", "failed", _body("assert gate.size()", before=XFAIL), SAID)
_enter("xpass", "a FAIL, not asserted, xfail", "failed", _body("gate.size()", before=XFAIL), SAID)
_enter("xfail_called", "a FAIL, then pytest.xfail()", "failed", _body("gate.size()", "pytest.xfail('known')"), SAID)
_enter("skipped", "a FAIL, then pytest.skip()", "failed", _body("gate.size()", "pytest.skip('no time')"), SAID)
UNITTEST = "raise unittest.SkipTest('no time')"
_enter("unittest", "a FAIL, then unittest.SkipTest", "failed", _body("gate.size()", UNITTEST), SAID)
_enter("fixture", "a FAIL in a fixture, nothing asserted", "failed", _body("pass", arguments="verdict"), SAID)
_enter(
    "late", "a FAIL in a fixture's teardown", "error", _body("assert gate.size('PASS')", arguments="gate, late"), SAID
)
ASSERTED = "assert gate.size('PASS')"
_enter(
    "late_swallowed", "a gate's error swallowed in teardown", "error", _body(ASSERTED, arguments="gate, late_broken"),
    NONE, "broken",
)  # fmt: skip
LATE_SKIPPED = _body("pass", arguments="late, skips")
_enter("late_skipped", "a FAIL in teardown of a test that a fixture skipped", "error", LATE_SKIPPED, SAID)
LATE_BROKEN_SKIPPED = _body("pass", arguments="late_broken, skips")
_enter("late_swallowed_skipped", "likewise an error, swallowed", "error", LATE_BROKEN_SKIPPED, NONE, "broken")
TWO = _body("gate.size()", "assert gate.size('PASS')")
_enter("one_of_two", "a FAIL, then an asserted PASS", "failed", TWO, SAID)
for status in ("INCONCLUSIVE", "NO_BASELINE"):
    ignored = _body(f"gate.size('{status}')")
    _enter(status.lower(), f"{status}, refused by an option, not asserted", "failed", ignored, f"{status}: ")
_enter("unasked", "a gate, not asked", "failed", _body("pass"), NONE, "no gate was asked")
_enter("raised", "an exception instead of a verdict", "failed", _body("raise OSError('disk')"), "disk")
_enter("raised_xfail", "an exception instead of a verdict, xfail", "failed", _body("1 / 0", before=XFAIL), NONE)
_enter("skip_inside", "pytest.skip() instead of a verdict", "failed", _body("pytest.skip('no time')"), NONE, "no time")
SWALLOWED = _body("with contextlib.suppress(ValueError):", "    gate.size('broken')", "assert gate.size('PASS')")
_enter("swallowed", "a gate's error swallowed, another's PASS asserted", "failed", SWALLOWED, NONE, "broken")
TIMEOUT = _body("pytest.fail('Timeout >1.0s')", before=XFAIL)
_enter("timeout", "a timeout before the verdict, xfail", "failed", TIMEOUT, "Timeout")
# What may end so.
_enter("fixture_skips", "a fixture that skips the test", "skipped", _body("pass", arguments="gate, skips"))
_enter("passed", "a PASS, asserted", "passed", _body("assert gate.size('PASS')"))
_enter("passed_unasserted", "a PASS, not asserted", "passed", _body("gate.size('PASS')"))
_enter("accepted", "NO_BASELINE, let through by the options", "passed", _body("assert gate.size('accepted')"))
_enter("marked", "a mark that skips the test", "skipped", _body("pass", before="@pytest.mark.skip(reason='later')"))
NOT_RUN = "@pytest.mark.xfail(run=False, reason='crashes')"
_enter("not_run", "xfail(run=False)", "xfailed", _body("pass", before=NOT_RUN))
OURS = _body("from enginegate.plugin.outcomes import skip", "skip('is the reference itself')")
_enter("suite_skips", "a skip of the suite's own", "skipped", OURS)
_enter("other", "somebody else's test that asserts nothing", "passed", _body("pass", arguments=""))


EXIT = "import pytest\ndef {}:\n    pytest.exit('done', returncode=0)\n"


def _ended(name: str, given: str, expected: str, function: str, *statuses: str) -> None:
    """Enter a session with these verdicts that somebody ends with exit code 0: its code, and its record's status."""

    def run(folder: Path) -> Got:
        session = GateSession(None, (), print)  # type: ignore[arg-type]
        session.verdicts["toy"] = [_entry("test_it", status) for status in statuses]
        (folder / "conftest.py").write_text(EXIT.format(function), encoding="utf-8")
        file = folder / f"test_inner_{next(_NUMBER)}.py"
        file.write_text("def test_it():\n    pass\n", encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        arguments = [str(file), "-pno:cacheprovider", "--import-mode=importlib", f"-c{folder / 'pytest.ini'}"]
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        with patch.dict(os.environ, environment), contextlib.redirect_stdout(io.StringIO()):
            code = pytest.main(arguments, plugins=[LastWord(session, owns_signal=False)])
        return Got(f"exit {int(code)}, {'partial' if session.ended_early else 'whole'}")

    run.__name__ = f"ended_{name}"
    case(given, kind="fail-open: session", expected=expected)(run)


AFTER_TEST, AT_END = "pytest_runtest_logfinish(nodeid)", "pytest_sessionfinish(session)"
_ended("refused", "pytest.exit(returncode=0) after a FAIL", "exit 1, partial", AFTER_TEST, "FAIL")
_ended("refused_at_end", "pytest.exit(returncode=0) at the end, after a FAIL", "exit 1, whole", AT_END, "PASS", "FAIL")
_ended("early", "pytest.exit(returncode=0) after a PASS", "exit 0, partial", AFTER_TEST, "PASS")
_ended("in_time", "pytest.exit(returncode=0) at the end, after a PASS", "exit 0, whole", AT_END, "PASS")


def _again(*statuses: str) -> list[str | None]:
    """A session in which a test had these verdicts, attempt by attempt: the record, and whether it is accepted."""
    session, test = GateSession(None, (), print), "tests_perf/test_it.py::test_it"  # type: ignore[arg-type]
    for number, status in enumerate(statuses):
        if number:
            session.set_aside("toy", test)
        session.verdicts.setdefault("toy", []).append(_entry(test, status))
    record: Any = SimpleNamespace(
        joint=[], id="run", status="complete", verdicts=session.verdicts["toy"], attempts=session.attempts["toy"]
    )
    accepted = attempt(check_acceptable, record, False)
    return [*(entry.status for entry in record.verdicts), *map(str, reruns(record)), accepted.outcome, accepted.text]


def _entry(test: str, status: str) -> VerdictEntry:
    return VerdictEntry(
        test=test,
        engine="toy-fake-int8_wo",
        workload=None,
        status=status,
        metric="engine_size",
        estimate=1.0,
        interval=(1.0, 1.0),
        unit="bytes",
        baseline=None,
        change=None,
        margin=0.0,
        alpha=0.0,
        smallest_visible=None,
        samples=1,
        explanation="",
        warnings=[],
        accepted=status == "PASS",
    )


def _rerun(name: str, given: str, expected: str, *statuses: str, says: tuple[str, ...]) -> None:
    def run(_: Path) -> Got:
        status, told, *accepted = _again(*statuses)
        return Got(f"{status}, accept: {accepted[0]}", f"{told} {accepted[1]}")

    run.__name__ = f"rerun_{name}"
    case(given, kind="fail-open: reruns", expected=expected, says=says)(run)


_rerun(
    "red",
    "one FAIL at three attempts",
    "FAIL, accept: BaselineError",
    "FAIL",
    "FAIL",
    "FAIL",
    says=("FAIL at attempt 3 of 3, after FAIL, FAIL", "1 failed verdict(s)"),
)
_rerun(
    "green",
    "FAIL, FAIL, PASS",
    "PASS, accept: BaselineError",
    "FAIL",
    "FAIL",
    "PASS",
    says=("PASS at attempt 3 of 3, after FAIL, FAIL", "error rates hold for one attempt", "until they were run again"),
)
_rerun(
    "undecided",
    "INCONCLUSIVE, PASS",
    "PASS, accept: accepted",
    "INCONCLUSIVE",
    "PASS",
    says=("PASS at attempt 2 of 2, after INCONCLUSIVE",),
)
