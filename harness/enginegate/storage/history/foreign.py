"""Results of other tools as runs of a history: pytest-benchmark's JSON, asv's results, a ``benchmark_results.csv``.

Formats: https://pytest-benchmark.readthedocs.io (``--benchmark-json``), https://asv.readthedocs.io (``results/``,
versions 1 and 2 of its files). What is not stored there stays empty: a name alone tells such a series.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enginegate.core.specs import engine_id
from enginegate.storage.history.entries import Entry, Figure, HistoryEngine, HistoryRun, checked, finite
from enginegate.storage.history.identity import SeriesKey
from enginegate.storage.summary import median_interval

#: Files of asv that hold no results.
ASV_OTHERS = frozenset({"machine.json", "benchmarks.json"})
#: The machine of a file that names none.
UNKNOWN = "unknown machine"


@dataclass(frozen=True)
class Told:
    """What a file does not say of itself: the machine, the commit, and when it was measured (ISO 8601)."""

    machine: str = ""
    commit: str = ""
    started: str = ""


def pytest_benchmark(content: Mapping[str, Any]) -> Entry:
    """One file of pytest-benchmark: the median of each benchmark's rounds. Raises ValueError."""
    machine, commit = _object(content, "machine_info"), content.get("commit_info") or {}
    cpu = _object(machine, "cpu") if machine.get("cpu") else {}
    name = _machine(str(cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor") or ""), machine, cpu)
    started = _moment(str(content.get("datetime") or ""))
    environment = {
        name: str(machine[key])
        for name, key in (("kernel", "release"), ("python", "python_version"))
        if machine.get(key)
    }
    figures = []
    for number, each in enumerate(_list(content, "benchmarks")):
        if not isinstance(each, Mapping) or not each.get("fullname"):
            raise ValueError(f"benchmark {number} has no fullname")
        stats = _object(each, "stats")
        data = [float(value) for value in stats.get("data") or ()]
        low, high = median_interval(data) or (None, None)
        key = _key("pytest-benchmark", str(each["fullname"]), "", "time", "seconds", name, "median of rounds")
        figures.append(Figure(key, _number(stats.get("median"), each["fullname"]), finite(low), finite(high), ""))
    run = HistoryRun(
        id=f"pytest-benchmark-{_short(started, name, str(commit.get('id', '')))}",
        started=started,
        commit=str(commit.get("id") or "")[:12] + ("-dirty" if commit.get("dirty") else ""),
        machine=name,
        model="",
        status="complete",
        origin="pytest-benchmark",
        environment=environment,
    )
    return checked(Entry(run, (), tuple(figures)))


#: By the beginning of an asv benchmark's name: what it measures, in what unit.
_ASV = {
    "time": ("time", "seconds"),
    "timeraw": ("time", "seconds"),
    "mem": ("memory", "bytes"),
    "peakmem": ("peak_memory", "bytes"),
    "track": ("track", "unit"),
}


def asv(content: Mapping[str, Any], path: Path) -> Entry:
    """One result file of asv: a commit in an environment. Raises ValueError."""
    params = content.get("params") if isinstance(content.get("params"), Mapping) else {}
    assert isinstance(params, Mapping)
    machine = str(params.get("machine") or path.parent.name)
    environment_name = str(content.get("env_name") or content.get("python") or "")
    date = content.get("date")
    if not isinstance(date, int | float) or isinstance(date, bool):
        raise ValueError("it has no date")
    started = datetime.datetime.fromtimestamp(date / 1000, datetime.timezone.utc).isoformat(timespec="seconds")
    units = _asv_units(path)
    columns = content.get("result_columns")
    figures = []
    for name, stored in _object(content, "results").items():
        fields = _asv_fields(name, stored, columns)
        metric, unit = _ASV.get(name.rpartition(".")[2].partition("_")[0].lower(), ("result", "unit"))
        method = f"asv {fields.get('version') or ''}".strip()
        results = fields["result"] if isinstance(fields["result"], list) else [fields["result"]]
        for cell, parameters in enumerate(itertools.product(*(fields.get("params") or []))):
            if cell >= len(results):
                raise ValueError(f"{name} has {len(results)} results, fewer than its parameters")
            key = _key("asv", name, ", ".join(map(str, parameters)), metric, units.get(name, unit), machine, method)
            key = replace(key, variant=_fitted(environment_name, 64))
            low, high = (finite(_cell(fields.get(end), cell)) for end in ("stats_ci_99_a", "stats_ci_99_b"))
            value = results[cell]
            figures.append(Figure(key, None if value is None else _number(value, name), low, high, ""))
    commit = str(content["commit_hash"])
    libraries = {str(key): str(value) for key, value in (content.get("requirements") or {}).items()}
    python = {"python": str(content["python"])} if content.get("python") else {}
    run = HistoryRun(
        id=f"asv-{_short(commit, machine, environment_name)}",
        started=started,
        commit=commit[:12],
        machine=machine,
        model="",
        status="complete",
        origin="asv",
        environment=libraries | python,
    )
    return checked(Entry(run, (), tuple(figures)))


def _asv_fields(name: str, stored: Any, columns: Any) -> dict[str, Any]:
    """The columns of one benchmark's results, as version 2 of the files stores them, or as version 1 does."""
    if isinstance(stored, list) and isinstance(columns, list):
        return {"result": None, **dict(zip(map(str, columns), stored))}  # noqa: B905 - the last ones are left out
    if isinstance(stored, Mapping) and "result" in stored:
        return dict(stored)
    if stored is None or isinstance(stored, int | float):
        return {"result": stored}
    raise ValueError(f"the result of {name} is laid out as no version of asv does")


def _asv_units(path: Path) -> dict[str, str]:
    """Units by benchmark, from asv's own list two folders up; empty without one."""
    for folder in (path.parent.parent, path.parent):
        file = folder / "benchmarks.json"
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            return {
                str(name): str(each["unit"])
                for name, each in content.items()
                if isinstance(each, Mapping) and each.get("unit")
            }
    return {}


#: Columns of a table of results: what each is, its unit, and how many of that unit 1 stands for.
_COLUMNS = {
    "Latency (ms)": ("latency", "seconds", 1e-3),
    "Tokens/sec": ("throughput", "tokens/s", 1.0),
    "GPU Memory (MB)": ("peak_memory", "bytes", 2.0**20),
    "Memory (MB)": ("peak_memory", "bytes", 2.0**20),
    "WM (GB)": ("loaded_memory", "bytes", 2.0**30),
    "Accuracy (%)": ("accuracy", "score", 1e-2),
    "ROUGE-1": ("summaries.rouge1", "score", 1e-2),
    "ROUGE-2": ("summaries.rouge2", "score", 1e-2),
    "ROUGE-L": ("summaries.rougeL", "score", 1e-2),
    "ROUGE-Lsum": ("summaries.rougeLsum", "score", 1e-2),
    "BLEU": ("similarity.bleu", "score", 1.0),
    "Perplexity": ("perplexity.perplexity", "score", 1.0),
    "KLD": ("divergence.kld", "score", 1.0),
    "TTFT (ms)": ("ttft_seconds", "seconds", 1e-3),
    "ITL (ms)": ("itl_seconds", "seconds", 1e-3),
    "Speedup": ("speedup", "x", 1.0),
}
_NEEDED = ("Model", "Precision", "Batch Size")


def results_table(path: Path, told: Told) -> Iterator[Entry]:
    """A ``benchmark_results.csv``: one row for each model, precision and batch size, one run of all. Raises ValueError.

    It says neither when nor where it was measured: without ``told``, that is when the file was written, on a machine
    that is not known.
    """
    text = path.read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines()))
    heading = [cell.strip() for cell in rows[0]] if rows else []
    lacking = [name for name in _NEEDED if name not in heading]
    if lacking:
        raise ValueError(f"it has no column {lacking[0]!r}")
    if not any(name in heading for name in _COLUMNS):
        raise ValueError(f"it has none of the columns {', '.join(list(_COLUMNS)[:4])} …")
    machine = told.machine or UNKNOWN
    engines: dict[str, HistoryEngine] = {}
    figures = []
    models = set()
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(heading):
            raise ValueError(f"row {number} has {len(row)} cells, its heading {len(heading)}")
        cells = {name: cell.strip() for name, cell in zip(heading, row, strict=True)}
        model, backend, precision = cells["Model"], cells.get("Engine", ""), cells["Precision"]
        if not model or not precision:
            raise ValueError(f"row {number} has no model or no precision")
        models.add(model)
        name = engine_id(model, backend, precision, "") if backend else f"{model}-{precision}"
        engines[name] = HistoryEngine(name, backend, precision, "", "", "", "", "")
        for column, (metric, unit, factor) in _COLUMNS.items():
            if cells.get(column):
                try:
                    value = float(cells[column]) * factor
                except ValueError as error:
                    raise ValueError(f"row {number}, column {column}: {cells[column]!r} is no number") from error
                workload = f"b{cells['Batch Size']}" if cells["Batch Size"] else ""
                over = cells.get("Speedup Over") if metric == "speedup" else ""
                method = f"table of results, over {over}" if over else "table of results"
                key = _key(backend, name, workload, metric, unit, machine, method)
                figures.append(Figure(replace(key, precision=precision), finite(value), None, None, ""))
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    run = HistoryRun(
        id=f"table-{_short(text, machine, told.commit, told.started)}",
        started=_moment(told.started) if told.started else written.isoformat(timespec="seconds"),
        commit=told.commit,
        machine=machine,
        model=", ".join(sorted(models))[:128],
        status="complete",
        origin="benchmark_results.csv",
    )
    yield checked(Entry(run, tuple(engines.values()), tuple(figures)))


def _key(backend: str, engine: str, workload: str, metric: str, unit: str, machine: str, method: str) -> SeriesKey:
    return SeriesKey(
        model_digest="",
        engine=_fitted(engine, 256),
        backend=backend,
        precision="",
        variant="",
        runtime_digest="",
        workload=_fitted(workload, 256),
        metric=metric,
        unit=_fitted(unit, 32),
        machine=_fitted(machine, 128),
        method=method,
    )


def _fitted(text: str, most: int) -> str:
    """A name of at most so many characters; of a longer one the beginning, and a digest of the whole."""
    return text if len(text) <= most else f"{text[: most - 13]}~{_short(text)}"


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _machine(name: str, info: Mapping[str, Any], cpu: Mapping[str, Any]) -> str:
    parts = (name, str(cpu.get("count", "")), str(info.get("machine", "")), str(info.get("system", "")))
    return _fitted(" ".join(filter(None, parts)) or UNKNOWN, 128)


def _moment(text: str) -> str:
    """A time in ISO 8601, of UTC where it names no zone. Raises ValueError."""
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ValueError(f"{text!r} is no time, such as 2026-11-27T09:00:00+00:00") from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.timezone.utc)
    return found.astimezone(datetime.timezone.utc).isoformat(timespec="seconds")


def _number(value: Any, name: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: {value!r} is no number")
    return float(value) if math.isfinite(value) else None


def _cell(values: Any, place: int) -> float | None:
    cell = values[place] if isinstance(values, list) and place < len(values) else None
    return float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else None


def _object(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"its {name} is no object")
    return found


def _list(content: Mapping[str, Any], name: str) -> list[Any]:
    found = content.get(name)
    if not isinstance(found, list):
        raise ValueError(f"its {name} is no list")
    return found
