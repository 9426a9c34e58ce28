"""Building in a process of its own: what a build patches, allocates or leaves in the environment goes with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import harness
from harness.errors import EngineError

_LOG_LINES = 15
_SET_PARENT_DEATH_SIGNAL = 1


def run_module(module: str, job: bytes, *, subject: str, mend: str, python: str = sys.executable) -> None:
    """Run ``python -m module`` with ``job`` on its standard input and wait for its end.

    The child finds this very package. Another Python than this one gets nothing else of ours to import, as this one's
    packages would shadow its own.

    Raises:
        EngineError: it ended with another status than 0; says ``subject``, the last lines printed, and ``mend``.
    """
    paths = [str(Path(harness.__file__).parent.parent)]
    if python == sys.executable:
        paths += filter(None, [os.environ.get("PYTHONPATH")])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    child = subprocess.run(
        [python, "-m", module],
        input=job,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if child.returncode != 0:
        tail = "\n".join(child.stdout.decode(errors="replace").strip().splitlines()[-_LOG_LINES:])
        raise EngineError(
            f"{subject} ended with status {child.returncode}:\n{tail}", f"see the last lines above; {mend}"
        )


def die_with_parent() -> None:
    """On Linux, end when the parent does, so that a killed session leaves no build running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
