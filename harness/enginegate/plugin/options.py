"""The suite's pytest options (declared by ``enginegate.pytest_options``), parsed into one frozen value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from enginegate.config.ini import INI, INI_MODEL
from enginegate.core.errors import ConfigError
from enginegate.core.files import expanded
from enginegate.core.terminal import in_ci
from enginegate.plan.against import Against, read_against
from enginegate.plan.options import Options
from enginegate.plan.selection import names
from enginegate.plan.shards import Shard, read_shard
from enginegate.plugin.workers import is_worker


def parse_options(config: pytest.Config) -> Options:
    """Read the options. Raises ConfigError naming the option that cannot be used."""
    read = _Reader(config)
    return Options(
        root=config.rootpath,
        models=read.names("model"),
        default_model=str(config.getini(INI_MODEL)),
        configs=tuple(Path(name) for name in read.names("config")),
        engines=read.names("engine"),
        precisions=read.names("precision"),
        batch_sizes=read.positive("batch-size"),
        baselines=read.folder("baselines"),
        require_baseline=read.require_baseline(),
        strict=read.flag("strict-gates"),
        time_budget=read.seconds("time-budget"),
        runs=read.folder("runs"),
        history=read.history(),
        audit=read.flag("gate-audit"),
        price_per_hour=read.price("price-per-hour"),
        require_gpu=read.flag("require-gpu"),
        against=read.against(),
        shard=read.shard(),
    )


def prefix(config: pytest.Config) -> str:
    """What the options' names begin with in this project."""
    return "--" if config.getini(INI) else "--eg-"


class _Reader:
    """Reads options by name; an error calls an option as this project may."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._prefix = prefix(config)

    def _value(self, name: str) -> Any:
        return self._config.getoption(f"eg_{name.replace('-', '_')}")

    def text(self, name: str) -> str:
        return str(self._value(name))

    def flag(self, name: str) -> bool:
        return bool(self._value(name))

    def require_baseline(self) -> bool:
        given: bool | None = self._value("require-baseline")
        return in_ci() if given is None else given

    def against(self) -> Against | None:
        return read_against(self.text("against"), f"{self._prefix}against")

    def shard(self) -> Shard | None:
        """Audits are not merged, so that one of a shard alone would stay one."""
        option = f"{self._prefix}shard"
        shard = read_shard(self.text("shard"), option)
        if shard is not None and self.flag("gate-audit"):
            raise ConfigError(
                f"{option} and {self._prefix}gate-audit do not go together: audits of shards cannot be merged",
                f"leave {option} out, or choose engines by {self._prefix}precision",
            )
        return shard

    def names(self, name: str) -> tuple[str, ...]:
        value, option = self.text(name), self._prefix + name
        found = names(value)
        if value and not found:
            raise ConfigError(f"{option} {value!r} names nothing", "leave it out, or give a comma separated list")
        return found

    def folder(self, name: str) -> Path:
        """As it was given, from the working directory; else of that name in the root folder."""
        value, option = self.text(name), self._prefix + name
        path = expanded(value) if value else _from_here(self._config.rootpath / name)
        try:
            file = path.exists() and not path.is_dir()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{option} {str(path)!r} cannot be used: {error}", "name a folder") from error
        if file:
            raise ConfigError(
                f"{option} {str(path)!r} is a file, not a folder", "name a folder; it is made where it is missing"
            )
        return path

    def history(self) -> str:
        """Looked at before anything is measured: at the end it would be too late. Workers of xdist write none."""
        url = self.text("history")
        if url and not is_worker(self._config):
            from enginegate.storage.history import check

            check(url)
        return url

    def positive(self, name: str) -> tuple[int, ...]:
        option = self._prefix + name
        for value in self.names(name):
            if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
                raise ConfigError(f"{option} {value!r} is not a positive whole number", f"for example {option} 1,8")
        return tuple(map(int, self.names(name)))

    def seconds(self, name: str) -> float | None:
        value, option = self.text(name), self._prefix + name
        if not value:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise ConfigError(f"{option} {value!r} is not a positive number of seconds", f"for example {option} 120")
        return seconds

    def price(self, name: str) -> float | None:
        value, option = self.text(name), self._prefix + name
        if not value:
            return None
        try:
            price = float(value)
        except ValueError:
            price = -1.0
        if not 0 < price <= 1e6:
            raise ConfigError(
                f"{option} {value!r} is not a price of an hour: a number above 0, at most 1e6",
                f"for example {option} 2.5",
            )
        return price


def _from_here(path: Path) -> Path:
    """Relative to the working directory where it lies below it: shorter to read, and the same in every record."""
    here = Path.cwd()
    return path.relative_to(here) if here in path.parents else path
