"""What changes where pytest-xdist spreads the tests over worker processes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from enginegate.session.gate_session import GateSession

#: Names under which a worker gets the run's id and the place of its own notes, and sends its records back.
RUN, NOTES, PART = "enginegate_run", "enginegate_notes", "enginegate_records"
#: Under which a worker says that its shard of the session is empty.
EMPTY = "enginegate_empty"


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def part_of_run(config: pytest.Config) -> dict[str, Any]:
    """What a worker has from its controller, as arguments of GateSession; empty in the controller."""
    sent: dict[str, str] = getattr(config, "workerinput", {})
    return {"run": sent[RUN], "notes": Path(sent[NOTES])} if RUN in sent else {}


def prepare_worker(node: Any, session: GateSession) -> None:
    """Make a worker part of the run, with a place where it notes its results in case it crashes."""
    folder = Path(tempfile.mkdtemp(prefix="enginegate-"))
    node.config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    node.workerinput[RUN] = session.run
    notes = session.unfinished[node.gateway.id] = folder / "records.json"
    node.workerinput[NOTES] = str(notes)


def take_over(node: Any, error: object, session: GateSession) -> None:
    """A worker has ended: add what it measured and concluded, or had noted when it crashed. xdist may tell twice."""
    notes = session.unfinished.pop(node.gateway.id, None)
    if notes is None:
        return
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    sent: list[str] | None = output.get(PART)
    if EMPTY in output:
        session.empty_shard = True
        session.warn(output[EMPTY])
    if sent is None:
        session.crash(f"xdist worker {node.gateway.id} crashed ({error or 'no reason given'})", notes)
    else:
        session.take_over(sent)


def take_over_unfinished(session: GateSession) -> None:
    """The controller ends before some of its workers: add what they had noted."""
    while session.unfinished:
        name, notes = session.unfinished.popitem()
        session.crash(f"xdist worker {name} was stopped before its end", notes)


def plain_id(item: pytest.Item) -> str:
    """The test's id without the group that xdist appends to it in its workers."""
    group = item.get_closest_marker("xdist_group")
    return item.nodeid.removesuffix(f"@{group.args[0]}") if group and is_worker(item.config) else item.nodeid
