"""A process of its own: what a build or an engine patches, allocates or leaves in the environment goes with it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import enginegate
from enginegate.core.errors import EngineError, EngineGateError

#: Of what a child that failed has printed, so many last lines are shown.
_LOG_LINES = 15
_SET_PARENT_DEATH_SIGNAL = 1
_HANDED_OVER = "enginegate hands over "


def run_module(
    module: str,
    job: bytes,
    *,
    subject: str,
    hint: str,
    python: str = sys.executable,
    timeout: float | None = None,
    error: type[EngineGateError] = EngineError,
    answers: bool = False,
) -> Any:
    """Run ``python -m module`` with ``job`` on its standard input, and wait for its end.

    What it prints goes to a file: a pipe would be read to its end, and a process that the child left behind holds that.

    Returns:
        What the child gave to ``hand_over``, or None.

    Raises:
        error: it ended with another status than 0, or not within ``timeout`` seconds; says ``subject``, the last lines
            printed, and ``hint``. Also where it ``answers``, and ended without handing anything over.
    """
    with tempfile.TemporaryFile() as log:
        try:
            status = subprocess.run(
                [python, "-m", module],
                input=job,
                env={**child_environment(python), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
                stdout=log,
                stderr=log,
                timeout=timeout,
                check=False,
            ).returncode
            ended = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            status, ended = None, f"took longer than {timeout:g} s and was ended"
        log.seek(0)
        printed = log.read().decode(errors="replace")
    handed = [line.removeprefix(_HANDED_OVER) for line in printed.splitlines() if line.startswith(_HANDED_OVER)]
    if status == 0 and (handed or not answers):
        return json.loads(handed[-1]) if handed else None
    if status == 0:
        ended += " and handed nothing over"
    raise error(f"{subject} {ended}:\n{last_lines(printed)}", f"see the last lines above; {hint}")


def hand_over(value: object) -> None:
    """In a child of ``run_module``: give it something that can be written as JSON, on a line of its own.

    Libraries print to standard output as well, some of them without ending their line, or at the very end.
    """
    print(f"\n{_HANDED_OVER}{json.dumps(value)}\n", end="", flush=True)


def last_lines(printed: str) -> str:
    """What is shown of all that a child printed that failed."""
    return "\n".join(printed.strip().splitlines()[-_LOG_LINES:])


def child_environment(python: str = sys.executable) -> dict[str, str]:
    """This process's environment, in which the child finds this very package.

    Another Python than this one gets nothing else of ours to import, as this one's packages would shadow its own.
    """
    paths = [str(Path(enginegate.__file__).parent.parent)]
    if python == sys.executable:
        paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def die_with_parent() -> None:
    """On Linux, end when the parent does, so that a killed session leaves no build and no engine behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
