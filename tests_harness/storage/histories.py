"""Histories with a known law: nights of a reference and a few engines, with changes where they are planted."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
from enginegate.storage.history.entries import Entry, Figure, HistoryEngine, HistoryRun
from enginegate.storage.history.identity import SeriesKey

REFERENCE = "tiny-8m-hf-bf16"
CANDIDATES = ("tiny-8m-openvino-int8_wo", "tiny-8m-openvino-int4_awq", "tiny-8m-openvino-bf16")
MACHINE = "nvidia-h200-16c-aec33040"


def nights(
    count: int,
    slower: Mapping[str, tuple[int, float]] | None = None,
    everything: tuple[int, float] | None = None,
    noise: float = 0.02,
    seed: int = 0,
    versions: Sequence[tuple[int, str, str]] = (),
    machine: str = MACHINE,
) -> list[Entry]:
    """One run a night.

    Args:
        count: of nights.
        slower: by engine, the night from which on it takes so many times as long.
        everything: the same of all engines, the reference among them.
        noise: standard deviation of each time, relative.
        seed: of the noise.
        versions: from which night on a library has which version.
        machine: its key.
    """
    generator = np.random.default_rng(seed)
    begin = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.timezone.utc)
    found = []
    for night in range(count):
        times = {}
        for name in (REFERENCE, *CANDIDATES):
            factors = [everything] if everything else []
            factors += [(slower or {}).get(name, (count, 1.0))]
            level = np.prod([factor for first, factor in factors if night >= first])
            times[name] = (1.0 if name == REFERENCE else 0.4) * level * np.exp(noise * generator.standard_normal())
        environment = {"driver": "595.58"} | {name: text for first, name, text in versions if night >= first}
        run = HistoryRun(
            id=f"night-{night:03d}",
            started=(begin + datetime.timedelta(days=night)).isoformat(timespec="seconds"),
            commit=f"{night:07x}",
            machine=machine,
            model="tiny-8m",
            status="complete",
            record=f"runs/night-{night:03d}/run.json",
            origin="enginegate",
            schema=2,
            enginegate="0.1.0",
            environment=environment,
        )
        library = environment.get("openvino", "2026.3")
        found.append(Entry(run, tuple(_engine(name, library) for name in times), tuple(_figures(times, machine))))
    return found


def _engine(name: str, library: str) -> HistoryEngine:
    _, _, backend, precision = name.split("-", 3)
    role = "reference" if name == REFERENCE else "candidate"
    return HistoryEngine(name, backend, precision, "", "44136fa355b3", f"key-{library}", f"{backend} {library}", role)


def _figures(times: Mapping[str, float], machine: str) -> list[Figure]:
    figures = []
    for name, seconds in times.items():
        _, _, backend, precision = name.split("-", 3)
        base = ("d" * 64, name, backend, precision, "", "44136fa355b3", "b1-i64-o64")
        key = SeriesKey(*base, "latency", "seconds", machine, "rounds, seed 0")
        figures.append(Figure(key, float(seconds), None, None, ""))
        if name != REFERENCE:
            ratio = SeriesKey(*base, "speedup", "x", machine, "rounds, seed 0, over hf-bf16 44136fa355b3")
            figures.append(Figure(ratio, float(times[REFERENCE] / seconds), None, None, "PASS"))
    return figures
