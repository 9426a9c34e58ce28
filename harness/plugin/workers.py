"""What changes where pytest-xdist spreads the tests over worker processes."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import MeasurementError


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def run_of_controller(config: pytest.Config, name: str) -> dict[str, Any]:
    """The run's id as the controller sent it under ``name``, as an argument of GateSession; none in the controller."""
    sent: str | None = getattr(config, "workerinput", {}).get(name)
    return {} if sent is None else {"run": sent}


def group_by_engine(config: pytest.Config) -> None:
    """Where no ``--dist`` was given, all tests of one engine go to one worker, which alone loads that engine."""
    asked = any(str(argument).startswith(("--dist", "-d")) for argument in config.invocation_params.args)
    if not asked and not is_worker(config) and config.getoption("dist", "no") == "load":
        config.option.dist = "loadgroup"


def plain_id(item: pytest.Item) -> str:
    """The test's id without the group that xdist appends to it in its workers."""
    group = item.get_closest_marker("xdist_group")
    return item.nodeid.removesuffix(f"@{group.args[0]}") if group and is_worker(item.config) else item.nodeid


def refuse_shared_device(item: pytest.Item) -> None:
    """Raise MeasurementError where a perf test runs beside other workers, which would share the device with it."""
    if is_worker(item.config) and item.get_closest_marker("perf") is not None:
        raise MeasurementError(
            f"a perf test runs in xdist worker {item.config.workerinput['workerid']}: "  # type: ignore[attr-defined]
            "other workers would share the device with it",
            "run tests_perf without -n; tests_quality may use it",
        )
