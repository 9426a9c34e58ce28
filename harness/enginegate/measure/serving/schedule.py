"""When requests arrive, how long they are, and where that comes from: drawn by a seed, or read from a file."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import ConfigError, edge

#: Names under which a file may give each number, ours first.
_NAMES = {
    "time": ("time", "timestamp"),
    "input_len": ("input_len", "input_length", "prompt_len"),
    "output_len": ("output_len", "output_length", "completion_len"),
    "priority": ("priority",),
}
_HINT = "one row a request, JSON Lines or CSV with the columns {columns}: docs/serving.md"


@dataclass(frozen=True)
class Trace:
    """The requests of one run: when each is due, and how long it is.

    Attributes:
        times: seconds after the start, not decreasing, none negative.
        input_lens, output_lens: tokens of each prompt and answer.
        priorities: of each; a smaller number goes first, where an engine knows priorities.
        kind: how it was made: ``poisson``, ``gamma``, ``constant`` or ``trace``.
        rate: requests a second that it offers.
    """

    times: tuple[float, ...]
    input_lens: tuple[int, ...]
    output_lens: tuple[int, ...]
    priorities: tuple[int, ...]
    kind: str
    rate: float

    def __len__(self) -> int:
        return len(self.times)

    @property
    def digest(self) -> str:
        """Of everything that it asks of an engine, but the text of the prompts."""
        rows = [*zip(self.times, self.input_lens, self.output_lens, self.priorities, strict=True)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def at_rate(self, rate: float) -> Trace:
        """The same requests, closer together or further apart, so that ``rate`` of them come in a second."""
        factor = self.rate / rate
        return replace(self, times=tuple(time * factor for time in self.times), rate=rate)


def arrival_times(kind: str, rate: float, count: int, *, seed: int, burstiness: float = 1.0) -> tuple[float, ...]:
    """``count`` arrival times, seconds, the first at 0, so spaced that ``rate`` come in a second on the mean.

    Args:
        kind: ``constant``; ``poisson``: gaps are exponential; ``gamma``: gaps have the squared coefficient of variation
            ``burstiness``, above 1 they come in bursts.
        rate: requests a second, above 0.
        count: how many, at least 1.
        seed: decides all of them.
        burstiness: of ``gamma``.

    Gaps are stretched to the exact rate, so that two seeds offer the same load: of a Poisson process that is the
    process given how many come in that time.

    Raises ConfigError where the rate, the count or the kind cannot be used.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise ConfigError(f"a rate of {rate:g} requests a second is no load", "take a rate above 0")
    if count < 1:
        raise ConfigError(f"{count} requests are no load", "take at least one")
    if not (math.isfinite(burstiness) and burstiness > 0):
        raise ConfigError(f"a burstiness of {burstiness:g} has no meaning", "take 1 for Poisson, more for bursts")
    generator = np.random.default_rng([seed, count])
    gaps: NDArray[np.float64]
    if kind == "constant":
        gaps = np.ones(count)
    elif kind == "poisson":
        gaps = generator.exponential(size=count)
    elif kind == "gamma":
        gaps = generator.gamma(1.0 / burstiness, size=count)
    else:
        raise ConfigError(f"{kind!r} is no kind of arrivals", "take poisson, gamma or constant, or a trace file")
    total = float(gaps.sum())
    times = np.concatenate([[0.0], np.cumsum(gaps[:-1])]) * (count / rate / total if total > 0 else 0.0)
    return tuple(map(float, times))


def drawn(
    kind: str,
    rate: float,
    count: int,
    lengths: LengthPairs,
    *,
    seed: int,
    burstiness: float = 1.0,
    priorities: int = 1,
) -> Trace:
    """A trace whose arrivals and lengths are decided by a seed.

    ``priorities``: each request gets one of so many, from 0 on, each equally likely.
    """
    times = arrival_times(kind, rate, count, seed=seed, burstiness=burstiness)
    generator = np.random.default_rng([seed, count, 1])
    rows = generator.integers(len(lengths.pairs), size=count)
    pairs = [lengths.pairs[row] for row in rows]
    levels = generator.integers(priorities, size=count)
    inputs, outputs = zip(*pairs, strict=True)
    return Trace(times, inputs, outputs, tuple(map(int, levels)), kind, rate)


@dataclass(frozen=True)
class LengthPairs:
    """Lengths of prompts and answers that go together, tokens: ``(input_len, output_len)`` of each request."""

    pairs: tuple[tuple[int, int], ...]

    def refuse_too_long(self, max_input: int, max_output: int, named: str) -> None:
        """Raise ConfigError where a length is over what the engine is built for. ``named``: where they come from."""
        refuse_too_long(
            [pair[0] for pair in self.pairs], [pair[1] for pair in self.pairs], max_input, max_output, named
        )


def refuse_too_long(
    inputs: list[int] | tuple[int, ...],
    outputs: list[int] | tuple[int, ...],
    max_input: int,
    max_output: int,
    named: str,
) -> None:
    """Raise ConfigError where a prompt or an answer is longer than the engine is built for."""
    for lens, limit, key in ((inputs, max_input, "max_input_len"), (outputs, max_output, "max_output_len")):
        over = [row for row, length in enumerate(lens, start=1) if length > limit]
        if over:
            first = ", ".join(f"request {row} with {lens[row - 1]}" for row in over[:3])
            more = f" and {len(over) - 3} more" if len(over) > 3 else ""
            raise ConfigError(
                f"{named}: {first}{more} of {len(lens)} are over limits.{key} {limit} tokens",
                f"raise limits.{key} in the configuration, or leave the longer requests out",
            )


def read_lengths(path: Path) -> LengthPairs:
    """Pairs of lengths from a file, such as those of ShareGPT's conversations. Raises ConfigError."""
    rows = _rows(path, "input_len, output_len")
    return LengthPairs(
        tuple(
            (_length(row, "input_len", path, number), _length(row, "output_len", path, number)) for number, row in rows
        )
    )


def read_trace(path: Path) -> Trace:
    """A trace from a file: ``time`` in seconds, ``input_len``, ``output_len`` and, where it likes, ``priority``.

    Times count from the first row's. Raises ConfigError where the file is empty, a time is negative, missing or before
    that of the row above, or a length is no positive whole number.
    """
    times: list[float] = []
    inputs, outputs, priorities = [], [], []
    for number, row in _rows(path, "time, input_len, output_len"):
        time = _number(row, "time", path, number)
        if time < 0:
            raise ConfigError(
                f"{path}, row {number}: the time {time:g} is negative", "count times from the first arrival"
            )
        if times and time < times[-1]:
            raise ConfigError(
                f"{path}, row {number}: the time {time:g} is before the {times[-1]:g} of the row above",
                "sort the rows by time",
            )
        times.append(time)
        inputs.append(_length(row, "input_len", path, number))
        outputs.append(_length(row, "output_len", path, number))
        priorities.append(_whole(row, "priority", path, number) if _has(row, "priority") else 0)
    span = times[-1] - times[0]
    if len(times) > 1 and span == 0:
        raise ConfigError(
            f"{path}: all {len(times)} requests come at the same time, so there is no rate", "give arrivals over time"
        )
    rate = (len(times) - 1) / span if span else 1.0
    return Trace(
        tuple(time - times[0] for time in times), tuple(inputs), tuple(outputs), tuple(priorities), "trace", rate
    )


def _rows(path: Path, columns: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows by their number, from 1. Raises ConfigError where the file cannot be read, or has none."""
    hint = _HINT.format(columns=columns)
    with edge(ConfigError, f"{path} cannot be read", hint):
        text = path.read_text(encoding="utf-8-sig")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    count = 0
    if path.suffix.lower() == ".csv":
        with edge(ConfigError, f"{path} is no CSV", hint):
            found: list[dict[str, Any]] = list(csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True))
        for count, row in enumerate(found, start=1):
            yield count, row
    else:
        for count, (number, line) in enumerate(lines, start=1):
            with edge(ConfigError, f"{path}, line {number} is no JSON", hint):
                value = json.loads(line)
            if not isinstance(value, dict):
                raise ConfigError(f"{path}, line {number} is no JSON object", hint)
            yield count, value
    if not count:
        raise ConfigError(f"{path} holds no request", hint)


def _has(row: Mapping[str, Any], name: str) -> bool:
    return any(row.get(each) not in (None, "") for each in _NAMES[name])


def _number(row: Mapping[str, Any], name: str, path: Path, number: int) -> float:
    value = next((row[each] for each in _NAMES[name] if row.get(each) not in (None, "")), None)
    if value is None:
        known = ", ".join(map(str, row)) or "nothing"
        raise ConfigError(f"{path}, row {number} has no {name}; it has {known}", _HINT.format(columns=name))
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{path}, row {number}: {name} {str(value)[:40]!r} is no number", "correct the row")
    return found


def _whole(row: Mapping[str, Any], name: str, path: Path, number: int) -> int:
    value = _number(row, name, path, number)
    if value != int(value):
        raise ConfigError(f"{path}, row {number}: {name} {value:g} is no whole number", "correct the row")
    return int(value)


def _length(row: Mapping[str, Any], name: str, path: Path, number: int) -> int:
    length = _whole(row, name, path, number)
    if length < 1:
        raise ConfigError(f"{path}, row {number}: {name} is {length}", "give at least one token")
    return length
