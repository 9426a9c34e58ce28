"""Changes every name that the TensorRT-LLM adapters use, one at a time, and shows that a test notices each.

    .venv/bin/python scripts/trtllm_mutations.py                  all of them (minutes)
    .venv/bin/python scripts/trtllm_mutations.py --only KvCache   those whose line says so

What is changed, in memory alone: each keyword passed to a class of TensorRT-LLM is renamed, and left out; each
enumeration member, attribute, method and dictionary key of the contract table is renamed; each enumeration member is
also replaced by another valid one. A mutant runs the adapter tests in a forked process and must make one fail.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "harness" / "enginegate" / "engines" / "trtllm"
#: The adapters: where TensorRT-LLM is called and its answers are read. quantize.py calls ModelOpt alone.
ADAPTERS = ("engine", "engine_backend", "torch_backend", "timing", "precisions")
TESTS = [str(REPOSITORY / "tests_harness" / "trtllm" / "test_adapters.py")]
ALTERNATIVES = {
    "GUARANTEED_NO_EVICT": "STATIC_BATCH",
    "STATIC_BATCH": "GUARANTEED_NO_EVICT",
    "INFLIGHT": "STATIC",
    "STATIC": "INFLIGHT",
    "W8A16": "W4A16",
    "W4A16": "W8A16",
    "W4A16_AWQ": "W4A16",
    "W4A16_GPTQ": "W4A16_AWQ",
    "W8A8_SQ_PER_CHANNEL": "W8A16",
    "FP8": "W8A16",
}


@dataclass(frozen=True)
class Mutant:
    """One change: ``text`` from ``start`` to ``end`` of a module's source becomes ``new``."""

    module: str
    line: int
    start: int
    end: int
    new: str
    what: str


def mutants() -> Iterator[Mutant]:
    """Every change, in the order of the files."""
    from enginegate.engines.trtllm.facts_data import FACTS

    kinds: dict[str, set[str]] = {}
    for fact in FACTS:
        kinds.setdefault(fact.kind, set()).add(fact.name)
    passed = kinds["keyword"] | {name.partition(".")[2] for name in kinds["parameter"]}
    read = kinds["attribute"] | kinds["method"]
    for module in ADAPTERS:
        source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
        offsets = _line_offsets(source)
        for node in ast.walk(ast.parse(source)):
            yield from _keywords(module, node, source, offsets, passed)
            if isinstance(node, ast.Attribute) and node.attr in read | kinds["member"] and _foreign(node):
                end = _at(offsets, node.end_lineno, node.end_col_offset)
                for new in _names(node.attr):
                    yield Mutant(module, node.lineno, end - len(node.attr), end, new, f"{node.attr} -> {new}")
            texts = passed | kinds["key"] | kinds["member"]
            if isinstance(node, ast.Constant) and node.value in texts and _quoted(source, offsets, node):
                start = _at(offsets, node.lineno, node.col_offset)
                end = _at(offsets, node.end_lineno, node.end_col_offset)
                for new in _names(str(node.value)):
                    yield Mutant(module, node.lineno, start, end, repr(new), f"{node.value!r} -> {new!r}")


def _keywords(module: str, node: ast.AST, source: str, offsets: list[int], passed: set[str]) -> Iterator[Mutant]:
    """Keywords of calls that reach TensorRT-LLM: ``api.make(…)``, ``generate_async(…)``, ``get_stats(…)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    if node.func.attr not in ("make", "generate_async", "get_stats"):
        return
    for keyword in node.keywords:
        if keyword.arg not in passed:
            continue
        start = _at(offsets, keyword.lineno, keyword.col_offset)
        end = _at(offsets, keyword.value.end_lineno, keyword.value.end_col_offset)
        name = keyword.arg or ""
        yield Mutant(module, keyword.lineno, start, start + len(name), f"{name}_changed", f"{name}= renamed")
        stop = end + 1 if source[end : end + 1] == "," else end
        yield Mutant(module, keyword.lineno, start, stop, "", f"{name}= left out")


def _names(name: str) -> list[str]:
    return [f"{name}_changed", *filter(None, [ALTERNATIVES.get(name)])]


def _foreign(node: ast.Attribute) -> bool:
    """Whether an attribute is read from an object of TensorRT-LLM rather than from our own."""
    owner = ast.unparse(node.value)
    ours = ("spec", "wanted", "runtime", "params", "known", "ENGINE")
    return owner.split(".")[0] not in ours and owner not in ("self.spec", "self.runtime")


def _quoted(source: str, offsets: list[int], node: ast.Constant) -> bool:
    """Not a docstring, and not a piece of an f-string."""
    return source[_at(offsets, node.lineno, node.col_offset)] in "\"'"


def _line_offsets(source: str) -> list[int]:
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    return offsets


def _at(offsets: list[int], line: int | None, column: int | None) -> int:
    return offsets[(line or 1) - 1] + (column or 0)


class _Served(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module from changed source."""

    def __init__(self, name: str, source: str, file: str) -> None:
        self._name, self._source, self._file = name, source, file

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        """The changed module, and no other."""
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module) -> None:  # type: ignore[no-untyped-def]
        """Run the changed source."""
        exec(compile(self._source, self._file, "exec"), module.__dict__)


def survives(mutant: Mutant) -> bool:
    """Run the tests with one change in a forked process; True where all pass."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _run(mutant)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _run(mutant: Mutant | None) -> int:
    import pytest

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if mutant is not None:
            path = PACKAGE / f"{mutant.module}.py"
            source = path.read_text(encoding="utf-8")
            changed = source[: mutant.start] + mutant.new + source[mutant.end :]
            name = f"enginegate.engines.trtllm.{mutant.module}"
            sys.meta_path.insert(0, _Served(name, changed, str(path)))
        return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *TESTS]))


def main() -> int:
    """Try every mutant; 1 where one survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only mutants whose description holds this text")
    parser.add_argument("--start", type=int, default=1, metavar="NUMBER", help="begin with this one of the list")
    parser.add_argument("--count", type=int, default=None, metavar="NUMBER", help="try that many (default: all left)")
    parser.add_argument("--list", action="store_true", help="name them, run nothing")
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    os.chdir(REPOSITORY)
    chosen = {f"{m.module}.py:{m.line} {m.what}": m for m in mutants()}
    chosen = {name: m for name, m in chosen.items() if arguments.only in name}
    if arguments.list:
        print("\n".join(chosen))
        return 0
    # Loaded once, so that forked processes need not; the adapters and their tests are then imported anew in each.
    import pytest
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *TESTS])
    for name in [name for name in sys.modules if "trtllm" in name or name.startswith("tests_harness")]:
        del sys.modules[name]
    survivors = []
    first = arguments.start - 1
    last = None if arguments.count is None else first + arguments.count
    todo = list(enumerate(chosen.items(), start=1))[first:last]
    for number, (name, mutant) in todo:
        alive = survives(mutant)
        survivors += [name] if alive else []
        print(f"{number:4}/{len(chosen)}  {'SURVIVED' if alive else 'noticed '}  {name}", flush=True)
    print(f"{len(todo) - len(survivors)} of {len(todo)} changes were noticed by a test")
    for name in survivors:
        print(f"survived: {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
