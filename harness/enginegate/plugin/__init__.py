"""The pytest plugin: hooks only. What they do lies in the modules beside this one.

A project's ``conftest.py`` asks for it; its options come from ``enginegate.pytest_options``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from enginegate.core.errors import EngineGateError
from enginegate.machine.own_processes import begin_session
from enginegate.plugin.auditing import separate_audit
from enginegate.plugin.closing import close_report
from enginegate.plugin.devices import claim_device, missed_gpu
from enginegate.plugin.optional import OPTIONAL, leave_out
from enginegate.plugin.options import parse_options
from enginegate.plugin.ours import (
    CANDIDATE,
    MARKERS,
    begins_again,
    needs,
    parameter,
    parametrize,
    planned_test,
    run_again_alone,
    show_to_benchmark,
    why_unselected,
    without_baseless,
    without_untasked,
)
from enginegate.plugin.outcomes import (
    error_reason,
    explain,
    fail,
    has_ended,
    insist,
    outcome_of,
    report_withdrawn,
    set_aside,
    shorten,
    why_not_passed,
)
from enginegate.plugin.progress import TerminalProgress
from enginegate.plugin.replay import replay_clock, shown_groups
from enginegate.plugin.sharding import is_empty, leave_the_rest, shard_line
from enginegate.plugin.termination import LastWord, end_well_when_terminated
from enginegate.plugin.workers import (
    EMPTY,
    PART,
    part_of_run,
    plain_id,
    prepare_worker,
    take_over,
    take_over_unfinished,
)
from enginegate.session.gate_session import GateSession

SESSION = pytest.StashKey[GateSession]()
PROGRESS = pytest.StashKey[TerminalProgress]()

#: Declares the options, where no entry point has done it.
OPTIONS_PLUGIN = "enginegate.pytest_options"
pytest_plugins = [OPTIONS_PLUGIN]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the suite's own hooks."""
    from enginegate.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Parse the options; what was asked for by name must exist and be possible, before anything runs."""
    if not config.pluginmanager.hasplugin(OPTIONS_PLUGIN):
        raise pytest.UsageError(
            f"enginegate.plugin has no options, since {OPTIONS_PLUGIN} is switched off; "
            f"hint: leave out -p no:{OPTIONS_PLUGIN}, or take enginegate.plugin out of conftest.py"
        )
    for marker in (*MARKERS, *(f"{name}: {what}" for name, what in OPTIONAL.items())):
        config.addinivalue_line("markers", marker)
    progress = config.stash[PROGRESS] = TerminalProgress(config)
    config.add_cleanup(progress.close)
    try:
        options = parse_options(config)
        session = GateSession(
            options,
            tuple(str(argument) for argument in config.invocation_params.args),
            progress,
            _wrapping(config),
            **part_of_run(config),
        )
        if options.models or options.configs or options.engines or options.precisions or options.batch_sizes:
            _ = session.selection
    except EngineGateError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SESSION] = session
    begin_session()
    config.pluginmanager.register(LastWord(session, owns_signal=end_well_when_terminated(config)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of xdist is part of this run."""
    prepare_worker(node, node.config.stash[SESSION])


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Generator[None, object, object]:
    """Tests of tasks that no configuration names are not there unless their file is asked for; nor of no base."""
    named = any(Path(argument.partition("::")[0]).name == collector.path.name for argument in collector.config.args)
    return without_baseless(without_untasked((yield), named), collector.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each selected engine, and for each batch size where the test asks for one.

    What no option named, such as the ini's model, is resolved here alone: where it cannot be, our tests fail, and those
    of others in the same session go on.
    """
    if CANDIDATE not in metafunc.fixturenames:
        return
    try:
        session = metafunc.config.stash[SESSION]
        parametrize(metafunc, session.selection, live=session.options.against is not None)
    except EngineGateError as error:
        parametrize(metafunc, error)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Now it is known which gates share the error budget, and which engines meet in which arena: plan the session.

    A shard plans all of it, and leaves the engines of the others out: before anybody counts or sends off the tests.
    """
    gates = session.config.stash[SESSION]
    ours = [item for item in session.items if needs(item, CANDIDATE) and why_unselected(item) is None]
    if ours and (gates.options.shard is not None or not session.config.option.collectonly):
        engines = {parameter(item, CANDIDATE).id for item in ours}
        try:
            gates.make_plan([test for item in ours for test in planned_test(item)], engines)
        except EngineGateError as error:
            raise pytest.UsageError(str(error)) from error
        if gates.plan.shard is not None:
            leave_the_rest(session, gates.plan)
        if (line := run_again_alone(session.config, ours)) is not None:
            gates.warn(line)


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Which engines are this shard's."""
    plan = config.stash[SESSION].planned
    return None if plan is None or plan.shard is None else shard_line(plan)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """``--eg-gate-audit`` runs the audit alone. Timed tests show pytest-benchmark the samples that the arena took."""
    leave_out(config, items)
    separate_audit(config, items, config.stash[SESSION])
    for item in items:
        show_to_benchmark(item, replay_clock)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is timed, or measures the device's memory, must have the device to itself. A repeated test begins anew."""
    if (reason := why_unselected(item)) is not None:
        raise reason.with_traceback(None)
    if begins_again(item):
        set_aside(item, item.config.stash[SESSION])
    claim_device(item, item.config.stash[SESSION])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """From here on, what the test concluded is what counts."""
    try:
        return (yield)
    finally:
        has_ended(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test passes by its verdicts alone; one that ended without any is noted in the record."""
    if call.when == "setup" and call.excinfo is not None:
        has_ended(item)
    failure = why_not_passed(item, call)
    if failure is not None:
        fail(call, failure)
    if call.excinfo is not None:
        explain(item, call.excinfo.value)
    report = yield
    if call.excinfo is not None and report.failed:
        shorten(report, item, call.excinfo)
    if failure is not None:
        insist(item, report, call, failure)
    if call.excinfo is not None and report.failed:
        reason = error_reason(item, call.excinfo.value)
        if reason is not None:
            item.config.stash[SESSION].record_error(plain_id(item), reason)
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Keep what was concluded so far on disk, so that a crash later loses nothing."""
    item.config.stash[SESSION].save_if_changed()


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """A test whose verdict is INCONCLUSIVE or NO_BASELINE shows as that, not as passed."""
    return outcome_of(report)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What identifies this machine goes into pytest-benchmark's files, which warns where it differs between two."""
    fingerprint = config.stash[SESSION].fingerprint
    machine_info["enginegate"] = {"key": fingerprint.key, "identity": fingerprint.identity}


def pytest_enter_pdb(config: pytest.Config) -> None:
    """Somebody is about to type: nothing is drawn below."""
    config.stash[PROGRESS].settle()


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> Generator[None, Any, Any]:
    """pytest-benchmark's tables of our samples: 200 columns that say what our own table says."""
    return shown_groups(config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """When the last test has ended, in the workers of xdist, too: speed and quality of each engine, taken together."""
    result = yield
    if not hasattr(session.config, "workeroutput"):
        report_withdrawn(session.config, session.config.stash[SESSION])
    return result


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the engines and write the records, marked partial where the session was cut short."""
    config = session.config
    gates = config.stash[SESSION]
    config.stash[PROGRESS].finish()
    gates.close()
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    complete = ended and not session.shouldfail and not session.shouldstop
    if hasattr(config, "workeroutput"):
        config.workeroutput[PART] = gates.part(complete)
        if gates.planned is not None and is_empty(gates):
            config.workeroutput[EMPTY] = shard_line(gates.planned)
        return
    take_over_unfinished(gates)
    if not gates.finish(complete) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
    if exitstatus == pytest.ExitCode.OK and missed_gpu(config, gates.options):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and is_empty(gates):
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """A worker of xdist has ended: take over its part of the records."""
    take_over(node, error, node.config.stash[SESSION])


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The results table, the verdicts, where the files are and what comes next, behind other plugins' tables."""
    close_report(terminalreporter, config.stash[SESSION])
    if missed_gpu(config, config.stash[SESSION].options) and not is_empty(config.stash[SESSION]):
        terminalreporter.write_line("--eg-require-gpu: no test ran an engine on an NVIDIA GPU", red=True, bold=True)


def _wrapping(config: pytest.Config) -> Any:
    def wrap(engine: Any) -> Any:
        other = config.hook.pytest_enginegate_engine_loaded(engine=engine)
        return engine if other is None else other

    return wrap
