"""Old files stay readable: what an earlier schema stored becomes what this one reads, step by step.

A step takes a file's content at one schema version and gives it at the next. Steps add what can be derived, and leave
a gap, never a guess, where something was not stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from enginegate.core.identity import runtime_digest
from enginegate.core.specs import VARIANT_MARK

Content = dict[str, Any]
Step = Callable[[Content], Content]

#: Metrics whose name changed with schema 2: questions answered by letter were called after a set that they are not.
_RENAMED = {"mmlu": "letters"}


def migrate(content: Any, steps: Mapping[int, Step]) -> Any:
    """``content`` at the newest version that ``steps`` lead to; unchanged where no step begins at its version.

    Raises ValueError where it is not laid out as its version says.
    """
    while isinstance(content, dict) and _version(content) in steps:
        version = _version(content)
        try:
            content = {**steps[version](content), "schema_version": version + 1}
        except (AttributeError, KeyError, TypeError, ValueError, StopIteration, RecursionError) as error:
            raise ValueError(f"it is not laid out as schema version {version} is: {error}") from error
    return content


def _version(content: Content) -> int:
    version = content.get("schema_version")
    return version if isinstance(version, int) and not isinstance(version, bool) else -1


def _record_to_2(record: Content) -> Content:
    """Identity: variants and runtime digests; ``letters``; numbers that are not finite became ``null``.

    An engine over several devices is a variant now, so that it is not taken for one on a single device.
    """
    for entry in record.get("engines", []):
        devices = entry.get("spec", {}).get("tensor_parallel", 1)
        if devices > 1:
            variant = f"tp{devices}"
            record = _with_id(record, entry["id"], f"{entry['id']}{VARIANT_MARK}{variant}")
            named = next(each for each in record["engines"] if each["id"] == f"{entry['id']}{VARIANT_MARK}{variant}")
            named["variant"] = named["spec"]["variant"] = variant
    engines = [
        {
            **entry,
            "variant": entry.get("variant", ""),
            "runtime_digest": runtime_digest(entry.get("runtime", {})),
        }
        for entry in record.get("engines", [])
    ]
    return {
        **record,
        "engines": engines,
        "quality": [_renamed(entry, "metric", "version") for entry in record.get("quality", [])],
        "verdicts": [_verdict_to_2(entry) for entry in record.get("verdicts", [])],
    }


def _with_id(content: Any, old: str, new: str) -> Any:
    """The content with an engine's id replaced wherever it stands alone, as a value or as a key."""
    if isinstance(content, dict):
        return {new if key == old else key: _with_id(value, old, new) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_id(value, old, new) for value in content]
    return new if content == old else content


def _verdict_to_2(verdict: Content) -> Content:
    """Letters; and a speed policy no longer has a confidence, which is one for all that is shown, nor a seed."""
    inputs = _renamed(verdict.get("inputs") or {}, "metric", "source", "subject")
    if inputs.get("gate") == "speed":
        policy = inputs.get("policy") or {}
        inputs["policy"] = {key: value for key, value in policy.items() if key not in ("confidence", "seed")}
    return {**_renamed(verdict, "metric"), "inputs": inputs}


#: What a round had fields for up to schema 2.
_FIGURES = ("ttft", "itl_p50", "itl_p95", "itl_p99", "last_token")


def _record_to_3(record: Content) -> Content:
    """The figures of a round became a mapping; one that was ``null`` is absent."""
    arenas = [{**arena, "blocks": _blocks_to_3(arena.get("blocks", []))} for arena in record.get("arenas", [])]
    races = [
        {**race, "launches": [_launch_to_3(launch) for launch in race.get("launches", [])]}
        for race in record.get("races", [])
    ]
    return {**record, "arenas": arenas, "races": races}


def _launch_to_3(launch: Content) -> Content:
    rounds: Content = {
        field: {workload: _blocks_to_3(blocks) for workload, blocks in launch[field].items()}
        for field in ("blocks", "first_tokens")
        if field in launch
    }
    return {**launch, **rounds}


def _blocks_to_3(blocks: list[Content]) -> list[Content]:
    return [{**block, "rounds": [_round_to_3(entry) for entry in block["rounds"]]} for block in blocks]


def _round_to_3(entry: Content) -> Content:
    """The last token's time may be missing, and the gaps ``null``; the first token's time was always there."""
    found = {name: entry[name] for name in _FIGURES if name != "last_token" or name in entry}
    figures = {name: value for name, value in found.items() if value is not None or name == "ttft"}
    return {**{key: value for key, value in entry.items() if key not in _FIGURES}, "figures": figures}


def _quality_to_2(baseline: Content) -> Content:
    metrics = {
        _RENAMED.get(name, name): _accepted_to_2(_renamed(metric, "version"))
        for name, metric in baseline.get("metrics", {}).items()
    }
    return {**baseline, "variant": "", "metrics": metrics}


def _perf_to_2(baseline: Content) -> Content:
    engines = {}
    for name, engine in baseline.get("engines", {}).items():
        sessions = [_accepted_to_2(session) for session in engine.get("sessions", [])]
        memory = engine.get("memory")
        engines[name] = {**engine, "sessions": sessions, "memory": memory and _accepted_to_2(memory)}
    return {**baseline, "engines": engines}


def _accepted_to_2(entry: Content) -> Content:
    """Which build it was, how it was loaded and with which libraries was not stored."""
    return {**entry, "provenance": {**entry["provenance"], "libraries": {}}, "key": "", "runtime_digest": ""}


def _renamed(entry: Content, *fields: str) -> Content:
    """The entry with old metric names replaced in the named text fields, as whole words."""
    changed = {}
    for field in fields:
        text = entry.get(field)
        if isinstance(text, str):
            for old, new in _RENAMED.items():
                text = _replace_word(text, old, new)
            changed[field] = text
    return {**entry, **changed}


def _replace_word(text: str, old: str, new: str) -> str:
    """``mmlu``, ``mmlu_accuracy``, ``mmlu/1;items=8`` and ``int8_wo mmlu accuracy``, but no part of another word."""

    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(old)}(?![A-Za-z0-9])", new, text)


RECORD: Mapping[int, Step] = {1: _record_to_2, 2: _record_to_3}
QUALITY: Mapping[int, Step] = {1: _quality_to_2}
PERF: Mapping[int, Step] = {1: _perf_to_2}
