"""The state of one pytest session: what was selected, what was measured, what was concluded, and its record."""

from __future__ import annotations

import datetime
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import harness
from harness.bench import ModelBench, Wrap
from harness.config import REPOSITORY, Config, cache_folder
from harness.engines.base import Progress
from harness.gates.family import split_alpha
from harness.gates.verdict import Verdict
from harness.measure.fingerprint import fingerprint
from harness.plugin.options import Options
from harness.plugin.selection import Selection, select
from harness.records import Fingerprint, ModelEntry, RunRecord, VerdictEntry
from harness.records_io import save_record


@dataclass
class GateSession:
    """One session. Built at configuration; nothing heavy happens before a test asks for it.

    Attributes:
        options: the parsed command line.
        arguments: the command line as given, for the record.
        progress: receives one line per long step.
        wrap: see ModelBench.
        gates: how many gates of each model were collected; the error budget is shared between them.
    """

    options: Options
    arguments: tuple[str, ...]
    progress: Progress
    wrap: Wrap = lambda engine: engine
    gates: Counter[str] = field(default_factory=Counter)
    timed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    verdicts: dict[str, list[VerdictEntry]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: _now())
    run: str = field(default_factory=lambda: _run_id())
    _selection: Selection | None = None
    _benches: dict[str, ModelBench] = field(default_factory=dict)
    _fingerprint: Fingerprint | None = None
    _dirty: bool = False

    @property
    def selection(self) -> Selection:
        """What is tested. Raises ConfigError or CapabilityError."""
        if self._selection is None:
            self._selection = select(self.options)
        return self._selection

    @property
    def fingerprint(self) -> Fingerprint:
        """This machine."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint()
        return self._fingerprint

    @property
    def benches(self) -> dict[str, ModelBench]:
        """The models touched so far, by name."""
        return dict(self._benches)

    def bench(self, config: Config) -> ModelBench:
        """The bench of one model."""
        if config.name not in self._benches:
            self._benches[config.name] = ModelBench(config, self.fingerprint, cache_folder(), self.progress, self.wrap)
        return self._benches[config.name]

    def alpha(self, config: Config) -> float:
        """The false-alarm probability of one gate, so that any false FAIL of the session stays within the budget."""
        return split_alpha(config.file.gates.alpha, max(1, sum(self.gates.values())))

    def conclude(
        self, model: str, test: str, engine: str, workload: str | None, verdict: Verdict, inputs: dict[str, object]
    ) -> None:
        """Keep one verdict for the record."""
        entry = VerdictEntry(
            test=test,
            engine=engine,
            workload=workload,
            status=verdict.status.value,
            metric=verdict.metric,
            estimate=verdict.estimate,
            interval=verdict.interval,
            unit=verdict.unit,
            baseline=verdict.baseline,
            change=verdict.change,
            margin=verdict.margin,
            alpha=verdict.alpha,
            smallest_visible=verdict.smallest_visible,
            samples=verdict.samples,
            explanation=verdict.explanation,
            warnings=list(verdict.warnings),
            accepted=bool(verdict),
            inputs=inputs,
        )
        self.verdicts.setdefault(model, []).append(entry)
        self._dirty = True

    def record(self, model: str, status: Literal["complete", "partial"]) -> RunRecord:
        """The record of one model as it stands."""
        bench = self._benches[model]
        checkpoint = bench.checkpoint
        several = len(self._benches) > 1
        return RunRecord(
            id=f"{self.run}-{model}" if several else self.run,
            started=self.started,
            finished=_now(),
            status=status,
            enginegate=harness.__version__,
            arguments=list(self.arguments),
            commit=_commit(),
            fingerprint=self.fingerprint,
            model=ModelEntry(
                name=model,
                source=checkpoint.source,
                digest=checkpoint.digest,
                random_weights=checkpoint.random_weights,
            ),
            config=bench.config.file.model_dump(by_alias=True),
            engines=list(bench.engines.values()),
            arenas=list(bench.arenas.values()),
            memory=list(bench.memory.values()),
            quality=list(bench.quality.values()),
            verdicts=self.verdicts.get(model, []),
            warnings=list(self.warnings),
        )

    def save(self, status: Literal["complete", "partial"]) -> list[tuple[RunRecord, Path]]:
        """Write the record of every model that has something to tell."""
        saved = []
        for name, bench in self._benches.items():
            if bench.engines or bench.memory or self.verdicts.get(name):
                record = self.record(name, status)
                saved.append((record, save_record(record, self.options.runs)))
        self._dirty = False
        return saved

    def save_if_changed(self) -> None:
        """Write partial records after a test that concluded something, so that a crash later loses nothing."""
        if self._dirty:
            self.save("partial")

    def close(self, failed: Callable[[str], None]) -> None:
        """Close all engines; a failure to close is told to ``failed``, not raised."""
        for bench in self._benches.values():
            try:
                bench.close()
            except Exception as error:
                failed(f"closing the engines of {bench.config.name}: {error}")


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _run_id() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def _commit() -> str:
    """The checkout's commit, marked where files differ from it; empty where there is no git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""
