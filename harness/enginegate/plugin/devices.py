"""Which device a test needs, and that it has it to itself where it must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from enginegate.core.errors import MeasurementError
from enginegate.engines.registry import capabilities, load_backend
from enginegate.machine import gpu
from enginegate.machine.lease import lease_devices, lease_folder
from enginegate.plugin.ours import CANDIDATE, needs, parameter, why_unselected
from enginegate.plugin.workers import is_worker

if TYPE_CHECKING:
    from enginegate.plan.options import Options
    from enginegate.plan.selection import Selection
    from enginegate.session.gate_session import GateSession

#: The property of a report, and in JUnit XML, that says where its test ran.
DEVICE = "device"
_ON_GPU = pytest.StashKey[bool]()


def device_of(item: pytest.Item) -> str:
    """``cuda`` where the test runs an engine on an NVIDIA GPU or is marked ``eg_gpu``, else ``cpu``."""
    candidate = parameter(item, CANDIDATE)
    if candidate is None:
        return "cuda" if item.get_closest_marker("eg_gpu") else "cpu"
    return capabilities(load_backend(candidate.spec.backend)).device


def claim_device(item: pytest.Item, session: GateSession) -> None:
    """Note the device that a test needs; lease a session with perf tests, and each xdist worker, the GPUs it needs.

    Raises MeasurementError where a test that times, or measures a device's memory, would share the device.
    """
    device = device_of(item)
    ours = needs(item, CANDIDATE) or item.get_closest_marker("eg_gpu") is not None
    if ours and (DEVICE, device) not in item.user_properties:
        item.user_properties.append((DEVICE, device))
    worker = is_worker(item.config)
    if session.lease is None and (device == "cuda" if worker else _measures_on_gpu(item, session)):
        _lease(session, worker)
    if not worker or item.get_closest_marker("eg_perf") is None:
        return
    if device != "cuda":
        raise MeasurementError(
            f"a perf test runs in xdist worker {item.config.workerinput['workerid']}: "  # type: ignore[attr-defined]
            "other workers would share the device with it",
            "run tests_perf without -n; tests_quality may use it",
        )
    if not item.config.getoption("loadgroup", False):
        raise MeasurementError(
            "perf tests of one batch size race in one arena, but their xdist workers were not told to keep together",
            "add --dist loadgroup",
        )


def _measures_on_gpu(item: pytest.Item, session: GateSession) -> bool:
    """Whether a session has perf tests and any of its engines, references too, runs on a GPU.

    Asked before the first test whatever that needs: CUDA looks once at which cards are visible.
    """
    stash = item.config.stash
    if _ON_GPU not in stash:
        timed = any(
            each.get_closest_marker("eg_perf") is not None and why_unselected(each) is None
            for each in item.session.items
        )
        stash[_ON_GPU] = timed and any(
            capabilities(load_backend(name)).device == "cuda" for name in _backends(session.selection)
        )
    return stash[_ON_GPU]


def _backends(selection: Selection) -> set[str]:
    configs = [each.config.file for each in selection.candidates]
    references = {section.backend for file in configs for section in (file.reference, file.quality.reference)}
    return {each.spec.backend for each in selection.candidates} | references


def _lease(session: GateSession, worker: bool) -> None:
    _ = session.fingerprint  # of the machine, with all its cards
    if not worker and not gpu.uuids():
        session.warn("the GPU is not leased: NVML shows no visible card, so that nobody can tell who else uses it")
        return
    widest = max((each.spec.tensor_parallel for each in session.selection.candidates), default=1)
    session.lease = lease_devices(lease_folder(), widest)


def missed_gpu(config: pytest.Config, options: Options) -> bool:
    """Whether ``--eg-require-gpu`` is given and no test's body ran with an engine on a GPU; asked in the controller."""
    if not options.require_gpu or is_worker(config):
        return False
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [report for group in reporter.stats.values() for report in group] if reporter else []
    return not any(_ran_on_gpu(report) for report in reports)


def _ran_on_gpu(report: object) -> bool:
    ran = isinstance(report, pytest.TestReport) and report.when == "call" and not report.skipped
    return ran and (DEVICE, "cuda") in map(tuple, report.user_properties)  # type: ignore[attr-defined]
