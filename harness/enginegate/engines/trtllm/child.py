"""Builds an engine in a process of its own.

Importing TensorRT-LLM starts MPI, and calibrating opens a CUDA context. Both would stay in the process that measures:
the context would take GPU memory, and MPI's variables in the environment would reach every child started afterwards,
whose own MPI then takes itself for a part of its parent's.
"""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from pathlib import Path

from enginegate.core.errors import EngineGateError
from enginegate.core.progress import Step
from enginegate.core.specs import EngineSpec
from enginegate.engines.base import Progress
from enginegate.engines.process.building import run_build
from enginegate.machine.processes import die_with_parent


def build_in_child(function: str, spec: EngineSpec, checkpoint: Path, out_dir: Path, progress: Progress) -> None:
    """Call ``function`` (``module:name``) with spec, checkpoint and out_dir in a child process.

    Raises EngineError with the error's own words, or with the last lines of what the child printed, also where it
    printed nothing for the limit of a build.
    """
    progress(Step(f"preparing {spec.id}"))
    run_build(
        __name__,
        pickle.dumps((function, spec, checkpoint, out_dir)),
        subject=f"{spec.id}: building it",
        hint="too little memory or an unsupported architecture are usual",
    )


def call(function: str, spec: EngineSpec, checkpoint: Path, out_dir: Path) -> None:
    """Call ``module:name`` with the rest."""
    module, _, name = function.partition(":")
    getattr(import_module(module), name)(spec, checkpoint, out_dir)


def main() -> int:
    """Do the job that standard input names; an error of the suite's own is its words alone."""
    die_with_parent()
    try:
        call(*pickle.load(sys.stdin.buffer))
    except EngineGateError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
