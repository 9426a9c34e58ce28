"""Damaged records, baselines and files of pytest-benchmark: never an uncaught exception, a hang, or a wrong exit code.

Each target is given ENGINEGATE_FUZZ_SECONDS of CPU time (default 50).
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from enginegate.cli import main
from enginegate.storage.runs import save_record
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests_harness.storage.factory import before_figures, gated_record, run_record

pytestmark = pytest.mark.heavy

SECONDS = float(os.environ.get("ENGINEGATE_FUZZ_SECONDS", "50"))
#: CPU seconds that one command may take: all of them take a fraction of one.
HANG = 30
RECORDS = Path(__file__).resolve().parents[2] / "docs" / "results" / "records"

#: Stands in a tree for text that is no JSON value of Python's: it is put in unquoted.
RAW = "\0raw:"
RAWS = (
    "1e999", "-1e999", "NaN", "-Infinity", f"1{'0' * 400}", f"1{'0' * 5000}", f"{'[' * 300}{']' * 300}", "[" * 5000,
    '{"a": 1, "a": 2}',
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e-320, 1e-30, 1e15, 1e300, -1e300, 2**63, 10**30, "", "x", "*", "[",
    "1.5", "true", "\ud800", "模型-é\n\x1b[31m", "x" * 5000, [], {}, [[]], {"": None}, [None] * 3, [0.0] * 50,
    "../../x", "PASS", "FAIL", "partial", *(RAW + raw for raw in RAWS),
)  # fmt: skip


NUMBERS = (0, 1, -1, 2, 0.5, 5e-324, 1e-320, 1e-30, 1e-9, 0.999, 1.001, 40, 1000, 1e9, 1e15, 1e17, 1e300, 1.7e308)
WHOLE = (0, 1, -1, 2, 3, 7, 1000, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)


def way(tree: Any, random: Random) -> list[Any]:
    """The way to some value, at every depth alike, so that not all ways lead to samples."""
    found: list[Any] = []
    while isinstance(tree, dict | list) and tree and (not found or random.random() < 0.93):
        key = random.choice([*tree]) if isinstance(tree, dict) else random.randrange(len(tree))
        found.append(key)
        tree = tree[key]
    return found


def mutated(tree: Any, random: Random) -> Any:
    """The tree with one to four values replaced, dropped, doubled or exchanged; two of three keep their type."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if not isinstance(tree, dict | list) or not tree:
            return copy.deepcopy(random.choice(VALUES))
        *to, last = way(tree, random)
        parent = _at(tree, to)
        if random.randrange(3):
            parent[last] = _of_its_type(parent[last], tree, random)
            continue
        kind = random.randrange(4)
        if kind == 0:
            del parent[last]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        elif kind == 1:
            parent[f"{last}2"] = copy.deepcopy(parent[last])
        elif kind == 2:
            parent[last] = copy.deepcopy(_at(tree, way(tree, random)))
        else:
            parent[last] = copy.deepcopy(random.choice(VALUES))
    return tree


def _of_its_type(value: Any, tree: Any, random: Random) -> Any:
    """Another value that a reader of types alone lets through."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((*WHOLE, value + 1, value - 1, -value, 2 * value))
    if isinstance(value, float):
        return random.choice((*NUMBERS, -value, 1.05 * value, 2 * value, value * 1e-9, value / 1e12))
    if isinstance(value, str):
        other = _at(tree, way(tree, random))
        return other if isinstance(other, str) else random.choice(("", "x", value * 2, value.upper(), "模型", "../x"))
    if isinstance(value, list):
        few = value[: random.randrange(3)]
        return random.choice(
            (few, value[1:], value[::-1], value + value, [*value, *few], random.sample(value, len(value)))
        )
    if isinstance(value, dict):
        keys = random.sample([*value], random.randrange(len(value) + 1))
        return {key: value[key] for key in keys}
    return random.choice((None, 0, 0.0, 1, 1.5, "x"))


def _at(tree: Any, way: Sequence[Any]) -> Any:
    for key in way:
        tree = tree[key]
    return tree


def written(tree: Any, random: Random) -> bytes:
    """A file of the tree; one in eight is cut off, or of another encoding, or packed, or has other bytes in it."""
    text = json.dumps(tree)
    for raw in RAWS:
        text = text.replace(json.dumps(RAW + raw), raw)
    data = text.encode()
    kind = random.randrange(24)
    if kind == 0:
        return data[: random.randrange(len(data) + 1)]
    if kind == 1:
        place = random.randrange(len(data) + 1)
        return data[:place] + random.choice((b"\xff", b"\0", b"}", b'"', b",", b"\xed\xa0\x80")) + data[place:]
    return {
        2: b"\xef\xbb\xbf" + data,
        3: text.encode("utf-16"),
        4: gzip.compress(data),
        5: gzip.compress(data)[:-9],
    }.get(kind, data)


class Hang(BaseException):
    """No ``except Exception`` stops it."""


def _hang(*_: object) -> None:
    raise Hang(f"one command took {HANG} s of CPU time")


def command(argv: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return code, out.getvalue(), err.getvalue()


def sound(argv: Sequence[str], found: str) -> None:
    """Assert that a command ends as documented: with 1 only where it prints what it ``found``."""
    code, out, err = command(argv)
    assert code in {0, 1, 2, 3}, err + "".join(
        Path(word.rstrip(",")).read_text(encoding="utf-8") for word in err.split() if "enginegate-error-" in word
    )
    assert (code == 1) == (found in out), (code, out, err)
    assert (code == 2) == bool(err.startswith("enginegate: ")), (code, out, err)


def fuzz(run: Callable[[Random], None]) -> None:
    """Give ``run`` random generators until the time is spent."""
    end, number = time.process_time() + SECONDS, 0
    while time.process_time() < end:
        number += 1

        @seed(number)
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(st.randoms(use_true_random=False))
        def some(random: Random) -> None:
            run(random)

        some()


@pytest.fixture(autouse=True)
def own_folder_for_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def benchmark_file(random: Random, slow: float) -> dict[str, Any]:
    benchmarks = [
        {
            "group": group,
            "name": name,
            "fullname": f"tests/test_a.py::{name}",
            "params": {"batch": 8},
            "options": {"timer": "perf_counter", "disable_gc": False},
            "stats": {"data": [slow * random.lognormvariate(-4, 0.01) for _ in range(8)], "rounds": 8, "min": 0.01},
        }
        for group, name in ((None, "test_x[int8-b1]"), ("decode", "test_y[b=8]"))
    ]
    machine = {"node": "n", "machine": "x86_64", "system": "Linux", "python_version": "3.11.7"}
    return {
        "machine_info": {**machine, "cpu": {"brand_raw": "CPU X", "count": 2, "hz_actual": [1, 0]}},
        "commit_info": {"id": "unknown"},
        "benchmarks": benchmarks,
        "datetime": "2026-11-26T00:00:00",
        "version": "5.3.1",
    }


OPTIONS = (
    [], ["--json"], ["--markdown"], ["--strict"], ["--across-machines"], ["--margin", "50%"], ["--metric", "time"],
    ["--filter", "*b*"], ["--margin", "bench:*x*=10%"], ["--margin", "group:*=1%"], ["--metric", "speedup,peak_memory"],
    ["--renamed", "tests/test_a.py::test_y[b=8]=tests/test_a.py::test_x[int8-b1]"],
)  # fmt: skip


def test_compare_files_of_pytest_benchmark(tmp_path: Path) -> None:
    bases = [tmp_path / f"base{number}.json" for number in range(4)]
    for number, path in enumerate(bases):
        path.write_text(json.dumps(benchmark_file(Random(number), 1.0)))

    def run(random: Random) -> None:
        tree = mutated(benchmark_file(random, random.choice((1.0, 1.5))), random)
        (tmp_path / "new.json").write_bytes(written(tree, random))
        files = [*map(str, bases), str(tmp_path / "new.json")]
        if random.randrange(3) == 0:
            files.reverse()
        options = random.choice(OPTIONS)
        sound(["compare", *files, *options], '"worse"' if "--json" in options else "REGRESSION")

    fuzz(run)


def cut(record: dict[str, Any]) -> dict[str, Any]:
    """The record with 25 items of each quality metric, and two engines of them, so that it is read quickly."""

    def few(items: dict[str, Any] | None) -> dict[str, Any] | None:
        return items and {item: items[item] for item in sorted(items)[:25]}

    engines = list(dict.fromkeys(entry["engine"] for entry in record["quality"]))[:2]
    verdicts = [each for each in record["verdicts"] if not record["quality"] or each["engine"] in engines]
    return {
        **record,
        "quality": [{**each, "items": few(each["items"])} for each in record["quality"] if each["engine"] in engines],
        "verdicts": [
            {**each, "inputs": {**each["inputs"], "baseline": few(each["inputs"]["baseline"])}}
            if isinstance(each["inputs"].get("baseline"), dict)
            else each
            for each in verdicts
        ],
    }


@pytest.fixture(scope="module")
def real_records() -> list[dict[str, Any]]:
    """Committed runs with every kind of verdict, and three of our own making, one of them as schema 1 had it."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDS.glob("*/run.json"))]
    found = sorted((cut(record) for record in found if record["verdicts"]), key=lambda record: len(json.dumps(record)))
    small = found[1:7] + [record for record in found if record["quality"]][:1]
    gates = {verdict["inputs"]["gate"] for record in small for verdict in record["verdicts"]}
    assert gates >= {"speed", "memory", "size", "build_time", "corpus", "accuracy", "nll", "flips", "lengths"}
    own = gated_record(1.0).model_dump(mode="json")
    old = copy.deepcopy({**before_figures(own), "schema_version": 1})
    for engine in old["engines"]:
        del engine["variant"], engine["runtime_digest"]
    return [*small, own, old, run_record(batch_sizes=(1,)).model_dump(mode="json")]


def test_compare_records(tmp_path: Path, real_records: list[dict[str, Any]]) -> None:
    def run(random: Random) -> None:
        record = random.choice(real_records)
        (tmp_path / "old.json").write_text(json.dumps({**record, "id": "old"}))
        (tmp_path / "new.json").write_bytes(written(mutated(record, random), random))
        files = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
        if random.randrange(3) == 0:
            files.reverse()
        options = random.choice(OPTIONS)
        sound(["compare", *files, *options], '"worse"' if "--json" in options else "REGRESSION")

    fuzz(run)


def test_recompute_verdicts(tmp_path: Path, real_records: list[dict[str, Any]]) -> None:
    def run(random: Random) -> None:
        (tmp_path / "run.json").write_bytes(written(mutated(random.choice(real_records), random), random))
        sound(["report", "--verdicts", str(tmp_path)], "DIFFERS")

    fuzz(run)


def test_report(tmp_path: Path, real_records: list[dict[str, Any]]) -> None:
    def run(random: Random) -> None:
        (tmp_path / "run.json").write_bytes(written(mutated(random.choice(real_records), random), random))
        sound(["report", str(tmp_path), *random.choice(([], ["--json"]))], "(report finds nothing)")

    fuzz(run)


def test_accept_records(tmp_path: Path, real_records: list[dict[str, Any]]) -> None:
    for path in ("first", "second"):
        save_record(run_record(path, batch_sizes=(1,), seed=len(path)), tmp_path)
    baselines = ["--baselines", str(tmp_path / "baselines")]
    assert command(["accept", str(tmp_path / "first"), *baselines])[0] == 0
    known = json.loads((tmp_path / "second" / "run.json").read_text())
    (tmp_path / "new").mkdir()

    def run(random: Random) -> None:
        tree = mutated(random.choice([known, *real_records]), random)
        (tmp_path / "new" / "run.json").write_bytes(written(tree, random))
        options = random.choice(([], ["--force"], ["--append"], ["--replace"], ["--json"]))
        sound(["accept", str(tmp_path / "new"), "--dry-run", *baselines, *options], "(accept finds nothing)")

    fuzz(run)


def test_accept_beside_baselines(tmp_path: Path) -> None:
    for path in ("first", "second"):
        save_record(run_record(path, batch_sizes=(1,), seed=len(path)), tmp_path)
    baselines = ["--baselines", str(tmp_path / "baselines")]
    assert command(["accept", str(tmp_path / "first"), *baselines])[0] == 0
    files = {path: json.loads(path.read_text()) for path in sorted((tmp_path / "baselines").rglob("*.json"))}

    def run(random: Random) -> None:
        path = random.choice(list(files))
        path.write_bytes(written(mutated(files[path], random), random))
        options = random.choice(([], ["--force"], ["--append"], ["--replace"], ["--json"]))
        sound(["accept", str(tmp_path / "second"), "--dry-run", *baselines, *options], "(accept finds nothing)")
        path.write_text(json.dumps(files[path]))

    fuzz(run)
