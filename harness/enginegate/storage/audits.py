"""Audits of the gates as files: those that one run measured, and the accepted ones of a machine.

runs/<run>/audit.json                          what one run measured; xdist workers share it
baselines/perf/<fingerprint key>/audit.json    what was accepted; only ``enginegate accept`` writes here
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from enginegate.core.cache import exclusive, writing
from enginegate.core.errors import BaselineError
from enginegate.core.files import to_json, write_atomically
from enginegate.core.records import Stored
from enginegate.core.specs import Limit
from enginegate.gates.launches import LaunchPower
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.sessions import ShiftPrior
from enginegate.storage.reading import Format

#: Raised when the meaning of a stored field changes; an audit file of another schema is refused.
SCHEMA = 2
#: Of waiting for whoever writes the same file, which takes no time.
_WAIT = Limit(120.0)


class Confirmation(Stored):
    """What the gate said of a really slowed engine."""

    slowdown: float
    status: str
    change: float | None
    explanation: str


class AuditSession(Stored):
    """One measured session of one metric: log ratios per block.

    Attributes:
        same: the engine against itself (A/A).
        live: the reference over the engine, the numbers that the speed gate works on.
        same_orders, live_orders: of each block, +1 where the first of the two ran first, else -1; empty where the
            blocks alternate.
        confirmations: verdicts on slowed copies of the engine.
    """

    run: str
    started: str
    same: list[float]
    live: list[float]
    confirmations: list[Confirmation]
    same_orders: list[int] = Field(default_factory=list)
    live_orders: list[int] = Field(default_factory=list)


class LaunchSession(Stored):
    """One measured session of one metric, an engine against a copy of itself.

    Attributes:
        against: the copy, as it was asked for.
        numbers: of each launch, log(time of the copy / time of the engine); see ``gates.launches.Launch``.
    """

    run: str
    started: str
    against: str
    numbers: Annotated[list[Annotated[float, Field(gt=-50, lt=50)]], Field(min_length=2)]


class Audited(Stored):
    """Which gate an audit is of: ``reference`` is what its ratio is taken over, for a live base the twin's id."""

    engine: str
    workload: str
    reference: str
    metric: str

    @property
    def key(self) -> str:
        """Its name among the audits of a machine."""
        return _key(self.engine, self.workload, self.reference, self.metric)


class AuditedGate(Audited):
    """The audit of one engine's gate of one speed metric. ``same`` and ``live``: gates.audit.AuditResult as fields."""

    policy: dict[str, Any]
    sessions: list[AuditSession]
    same: dict[str, Any]
    live: dict[str, Any]


class AuditedLaunches(Audited):
    """The audit of one engine's gate of one speed metric against a live base.

    Attributes:
        policy: as configured, with the belief about the spread of launches before they were audited.
        spread: the belief after the audit.
        rates: of the gate with that belief, at no slowdown, at the margin, and at those of ``SLOWDOWNS``.
    """

    kind: Literal["launches"] = "launches"
    policy: SpeedPolicy
    sessions: Annotated[list[LaunchSession], Field(min_length=1)]
    spread: ShiftPrior
    rates: list[LaunchPower]


def _kind(audit: object) -> str:
    """Audits of blocks, which came first, do not say what they are."""
    kind = audit.get("kind") if isinstance(audit, dict) else getattr(audit, "kind", None)
    return "launches" if kind == "launches" else "blocks"


#: An audit of either kind.
AnyAudit: TypeAlias = AuditedGate | AuditedLaunches


class AuditFile(Stored):
    """All audits of one machine, by ``<engine>/<workload>/<reference>/<metric>``."""

    schema_version: int = SCHEMA
    fingerprint: str
    gates: dict[
        str,
        Annotated[
            Annotated[AuditedGate, Tag("blocks")] | Annotated[AuditedLaunches, Tag("launches")], Discriminator(_kind)
        ],
    ]

    def of(self, engine: str, workload: str, reference: str, metric: str) -> AnyAudit | None:
        """The audit of this very gate, or None: another engine's noise says nothing of this one's."""
        return self.gates.get(_key(engine, workload, reference, metric))


def file_of(fingerprint: str, gates: Sequence[AnyAudit]) -> AuditFile:
    """A file that holds these audits; of two of the same gate, the later."""
    return AuditFile(fingerprint=fingerprint, gates={gate.key: gate for gate in gates})


def _key(engine: str, workload: str, reference: str, metric: str) -> str:
    return f"{engine}/{workload}/{reference}/{metric}"


#: The name of an audit's file, in a run's folder and beside a machine's baselines.
AUDIT_NAME = "audit.json"
_FORMAT = Format(
    AuditFile,
    "audit",
    SCHEMA,
    {},
    BaselineError,
    "restore it from version control, or move it away and run `pytest --eg-gate-audit` (short: `--gate-audit`); what"
    " that measures counts after `enginegate accept RUN`",
)


def audit_path(root: Path, fingerprint: str) -> Path:
    """Where the accepted audits of one machine lie."""
    return root / "perf" / fingerprint / AUDIT_NAME


def load_audit(root: Path, fingerprint: str) -> AuditFile | None:
    """The accepted audits of one machine, or None. Raises BaselineError where the file cannot be used."""
    return _FORMAT.read(audit_path(root, fingerprint))


def load_run_audit(folder: Path) -> AuditFile | None:
    """The audits that one run measured, or None. Raises BaselineError where the file cannot be used."""
    return _FORMAT.read(folder / AUDIT_NAME)


def save_run_audit(file: AuditFile, folder: Path) -> Path:
    """Add audits that were just measured to those of their run; of the same gate, ``file``'s takes the other's place.

    Raises BaselineError where what is there is of another machine or cannot be used, or writing fails.
    """

    def added(before: AuditFile | None) -> AuditFile:
        if before is None:
            return file
        if before.fingerprint != file.fingerprint:
            raise BaselineError(
                f"the audits in {folder} are of machine {before.fingerprint}, these are of {file.fingerprint}",
                "give each machine a folder of its own with --eg-runs",
            )
        return before.model_copy(update={"gates": {**before.gates, **file.gates}})

    return update_audit(folder / AUDIT_NAME, added)


def update_audit(path: Path, change: Callable[[AuditFile | None], AuditFile]) -> Path:
    """Read the audits at ``path``, or None, and write what ``change`` makes of them. Whoever does so at once waits.

    Raises BaselineError where the file cannot be used or written, EngineGateError where another process holds it,
    and whatever ``change`` raises.
    """
    with writing(path.parent, BaselineError, "the audit"), exclusive(path, lambda _: None, _WAIT):
        file = change(_FORMAT.read(path))
        try:
            write_atomically(path, to_json(file.model_dump(mode="json")))
        except OSError as error:
            raise BaselineError(
                f"audit {path} cannot be written: {error.strerror or error}", "free some space, or name another folder"
            ) from error
    return path
