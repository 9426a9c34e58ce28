"""Draw which room of the package imports which: docs/architecture.svg, made from the imports themselves.

    python scripts/architecture.py            # write the picture
    python scripts/architecture.py --check    # exit 1 where it is not up to date

A row imports what is marked in it; the number is how many modules of the row's room do. Rooms stand in the order in
which they may be imported, so that every mark lies below the diagonal: one above it would be a step back up, two that
mirror each other a cycle. (A design structure matrix: D. V. Steward, IEEE Trans. Eng. Management EM-28 (1981) 71-74.)
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "harness" / "enginegate"
PICTURE = REPOSITORY / "docs" / "architecture.svg"

#: The rooms, each with what it is for. A room may import those before it, and itself.
ROOMS = {
    "core": "errors, specs, identity, record types, files",
    "machine": "processor, control groups, GPUs, leases, processes",
    "gates": "pure statistics",
    "models": "a source becomes a whole checkpoint",
    "engines": "protocol, store, child engines, one folder a backend",
    "config": "one YAML file a model, validated",
    "measure": "arena, order, latency, memory",
    "quality": "metrics, data, reference cache",
    "storage": "records, baselines, audits, accepting, history",
    "verdicts": "typed gate inputs, the judge, compare, audit, power",
    "report": "terminal, CSV, plot, Markdown: from records",
    "plan": "options, selection, the plan, each engine's gates",
    "session": "files, running engines, samples, the record",
    "plugin": "pytest's hooks and what they call",
    "cli": "the command line",
    "testing": "what a backend's own tests use",
}

_CELL, _LEFT, _TOP, _RIGHT = 34, 92, 84, 330
_INK, _FAINT, _MARK = "#444", "#bbb", "#3b6ea5"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """What a module imports, dotted, and whether at import time; what only a type checker sees is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", getattr(block.test, "attr", "")) == "TYPE_CHECKING"
        for part in block.body
        for node in ast.walk(part)
    }
    top = {id(node) for part in tree.body if not isinstance(part, ast.FunctionDef) for node in ast.walk(part)}
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        at_once = id(node) in top and id(node) not in inner
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", at_once


def module_of(name: str, known: dict[str, Path]) -> str:
    """The module that an imported name lies in: itself, or what it is an attribute of; "" where it is not ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def edges() -> dict[str, dict[str, bool]]:
    """Every module of the package to those of its modules that it imports, and whether at import time."""
    known = modules()
    found: dict[str, dict[str, bool]] = {name: {} for name in known}
    for name, path in known.items():
        for imported, at_once in imports(path):
            target = module_of(imported, known)
            if target and target != name:
                found[name][target] = found[name].get(target, False) or at_once
    return found


def room(name: str) -> str:
    """The room of a module; "" of the package itself and its entry point."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def room_counts() -> dict[tuple[str, str], int]:
    """(room, imported room) to the number of modules that do so."""
    found: dict[tuple[str, str], int] = {}
    for name, targets in edges().items():
        for target in {room(each) for each in targets} - {"", room(name)}:
            if room(name):
                found[room(name), target] = found.get((room(name), target), 0) + 1
    return found


def draw() -> str:
    """The picture as SVG."""
    counts, names = room_counts(), list(ROOMS)
    width, height = _LEFT + _CELL * len(names) + _RIGHT, _TOP + _CELL * len(names) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        '  font-family="sans-serif" font-size="13">',
        "<title>Which room of the package imports which</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, name in enumerate(names):
        middle = _CELL * number + _CELL / 2
        x, y = _LEFT + middle, _TOP + middle
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end" fill="{_INK}">{name}</text>')
        parts.append(f'<text transform="translate({x + 4:g},{_TOP - 8}) rotate(-60)" fill="{_INK}">{name}</text>')
        right = _LEFT + _CELL * len(names) + 12
        parts.append(f'<text x="{right}" y="{y + 4:g}" font-size="11" fill="{_INK}">{ROOMS[name]}</text>')
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            x, y = _LEFT + _CELL * column, _TOP + _CELL * row
            count = counts.get((name, other), 0)
            fill = "#ddd" if row == column else _MARK if count else "none"
            box = f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" stroke="{_FAINT}" '
            parts.append(box + f'stroke-width="0.5" fill="{fill}" fill-opacity="{min(1.0, 0.35 + 0.08 * count):.2f}"/>')
            if count:
                where = f'x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + 4:g}"'
                parts.append(f'<text {where} text-anchor="middle" font-size="11" fill="#111">{count}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the picture, or look whether it is up to date; the exit code."""
    drawn = draw()
    if arguments == ["--check"]:
        current = PICTURE.read_text(encoding="utf-8") if PICTURE.exists() else ""
        if drawn != current:
            print(f"{PICTURE} is not up to date; run python scripts/architecture.py", file=sys.stderr)
        return int(drawn != current)
    if arguments:
        print(__doc__)
        return 2
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
