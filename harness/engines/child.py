"""A process of its own: what a build or an engine patches, allocates or leaves in the environment goes with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import harness
from harness.errors import EngineError

#: Of what a child that failed has printed, so many last lines are shown.
LOG_LINES = 15
_SET_PARENT_DEATH_SIGNAL = 1


def run_module(module: str, job: bytes, *, subject: str, mend: str, python: str = sys.executable) -> None:
    """Run ``python -m module`` with ``job`` on its standard input and wait for its end.

    Raises:
        EngineError: it ended with another status than 0; says ``subject``, the last lines printed, and ``mend``.
    """
    child = subprocess.run(
        [python, "-m", module],
        input=job,
        env={**child_environment(python), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if child.returncode != 0:
        tail = "\n".join(child.stdout.decode(errors="replace").strip().splitlines()[-LOG_LINES:])
        raise EngineError(
            f"{subject} ended with status {child.returncode}:\n{tail}", f"see the last lines above; {mend}"
        )


def child_environment(python: str = sys.executable) -> dict[str, str]:
    """This process's environment, in which the child finds this very package.

    Another Python than this one gets nothing else of ours to import, as this one's packages would shadow its own.
    """
    paths = [str(Path(harness.__file__).parent.parent)]
    if python == sys.executable:
        paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def die_with_parent() -> None:
    """On Linux, end when the parent does, so that a killed session leaves no build and no engine behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
