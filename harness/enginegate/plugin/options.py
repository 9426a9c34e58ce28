"""The suite's pytest options, parsed in one place into one frozen value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from enginegate.config.loading import REPOSITORY
from enginegate.core.errors import ConfigError
from enginegate.plan.selection import names


@dataclass(frozen=True)
class Options:
    """What the command line asked for. Empty tuples mean: what the configuration file says.

    Attributes:
        models: names of files in configs/.
        configs: configuration files given by path.
        engines: backends.
        precisions: precisions.
        batch_sizes: batch sizes of the timed work.
        baselines: folder of accepted baselines.
        require_baseline: a missing baseline fails; the default where the environment variable CI is set.
        strict: INCONCLUSIVE fails.
        time_budget: seconds for all timed arenas together, or None for the configuration's.
        runs: folder that receives the run records.
        history: SQLAlchemy URL of the history, or empty for ``<runs>/history.sqlite``.
        audit: measure the gates' own error rates on this machine.
        require_gpu: fail where no test ran on a GPU.
    """

    models: tuple[str, ...]
    configs: tuple[Path, ...]
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    baselines: Path
    require_baseline: bool
    strict: bool
    time_budget: float | None
    runs: Path
    history: str
    audit: bool
    require_gpu: bool


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("enginegate", "benchmark and regression gates for LLM engines")
    group.addoption("--model", default="", help="models by configuration name, comma separated (default smollm2-135m)")
    group.addoption(
        "--config", default="", help="configuration files of your own, comma separated; write --config=FILE"
    )
    group.addoption("--engine", default="", help="backends, comma separated (default: the configuration's)")
    group.addoption("--precision", default="", help="precisions, comma separated, e.g. full_prec,int8_wo,int4_awq")
    group.addoption("--batch-size", default="", help="batch sizes of the timed work, comma separated, e.g. 1,8")
    group.addoption(
        "--baselines",
        default=str(REPOSITORY / "baselines"),
        help="folder of accepted baselines; write --baselines=DIR (%(default)s)",
    )
    group.addoption(
        "--require-baseline",
        action="store_true",
        default=os.environ.get("CI", "").lower() not in ("", "0", "false"),
        help="fail where a baseline is missing (the default where CI is set)",
    )
    group.addoption(
        "--no-require-baseline", dest="require_baseline", action="store_false", help="undo --require-baseline"
    )
    group.addoption("--strict-gates", action="store_true", help="an INCONCLUSIVE verdict fails its test")
    group.addoption("--time-budget", default="", help="seconds for all timed arenas together")
    group.addoption("--runs", default="runs", help="folder of the run records; write --runs=DIR (default %(default)s)")
    group.addoption("--history", default="", help="SQLAlchemy URL of the history (default sqlite file in --runs)")
    group.addoption(
        "--gate-audit", action="store_true", help="measure this gate's false alarms and power on this machine"
    )
    group.addoption("--require-gpu", action="store_true", help="fail where no test ran an engine on an NVIDIA GPU")


def parse_options(config: pytest.Config) -> Options:
    """Read the options. Raises ConfigError naming the option that cannot be used."""
    return Options(
        models=_names(config, "--model"),
        configs=tuple(Path(name) for name in _names(config, "--config")),
        engines=_names(config, "--engine"),
        precisions=_names(config, "--precision"),
        batch_sizes=tuple(_positive("--batch-size", value) for value in _names(config, "--batch-size")),
        baselines=Path(config.getoption("--baselines")),
        require_baseline=bool(config.getoption("require_baseline")),
        strict=bool(config.getoption("--strict-gates")),
        time_budget=_seconds("--time-budget", config.getoption("--time-budget")),
        runs=_folder("--runs", config.getoption("--runs")),
        history=str(config.getoption("--history")),
        audit=bool(config.getoption("--gate-audit")),
        require_gpu=bool(config.getoption("--require-gpu")),
    )


def _names(config: pytest.Config, option: str) -> tuple[str, ...]:
    value: str = config.getoption(option)
    found = names(value)
    if value and not found:
        raise ConfigError(f"{option} {value!r} names nothing", "leave it out, or give a comma separated list")
    return found


def _folder(option: str, value: str) -> Path:
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise ConfigError(
            f"{option} {value!r} is a file, not a folder", "name a folder; it is made where it is missing"
        )
    return path


def _positive(option: str, value: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise ConfigError(f"{option} {value!r} is not a positive whole number", f"for example {option} 1,8")
    return int(value)


def _seconds(option: str, value: str) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{option} {value!r} is not a positive number of seconds", f"for example {option} 120")
    return seconds
