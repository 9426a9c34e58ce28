"""Run docs/demo.ipynb top to bottom on this machine: about ten minutes, more where the cache is empty.

    python scripts/demo.py            # the outputs go to runs/demo.ipynb
    python scripts/demo.py --write    # they go to docs/demo.ipynb itself, to be committed

It needs the extra `demo`: `make demo` installs it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "demo.ipynb"
COPY = ROOT / "runs" / "demo.ipynb"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are executed, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: NotebookNode) -> str:
    """Of what the code cells say: outputs of another text are not its own."""
    sources = json.dumps([cell.source for cell in code_cells(notebook)])
    return hashlib.sha256(sources.encode()).hexdigest()


def execute(path: Path, told: Callable[[str], None] = lambda _: None) -> tuple[NotebookNode, str]:
    """Execute a notebook in its own folder, with this Python.

    Args:
        path: the notebook.
        told: told a line as each cell starts.

    Returns:
        The notebook with its outputs, and what ended it early, or "".
    """
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)

    def starts(cell: NotebookNode, cell_index: int) -> None:
        del cell_index  # which counts the cells of text, too
        told(f"cell {1 + cells.index(cell)} of {len(cells)}: {cell.id}")

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        on_cell_execute=starts,
        resources={"metadata": {"path": str(path.parent)}},
        startup_timeout=300,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # between this process and the kernel
    )
    problem = ""
    try:
        client.execute()
    except CellExecutionError as error:
        problem = str(error)
    notebook.metadata["executed"] = digest(notebook)
    return notebook, problem


def main(out: Path) -> int:
    """Execute and write; the exit code."""
    notebook, problem = execute(NOTEBOOK, lambda line: print(line, flush=True))
    if not problem or out != NOTEBOOK:
        out.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, out)
        print(f"written: {out}")
    print(problem, end="", file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--write"]):
        print(__doc__)
        sys.exit(2)
    sys.exit(main(NOTEBOOK if sys.argv[1:] else COPY))
