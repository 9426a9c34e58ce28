"""Old files stay readable: what an earlier schema stored becomes what this one reads, step by step.

A step takes a file's content at one schema version and gives it at the next. Steps add what can be derived, and leave
a gap, never a guess, where something was not stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from enginegate.core.identity import runtime_digest

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
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is not laid out as schema version {version} is: {error}") from error
    return content


def _version(content: Content) -> int:
    version = content.get("schema_version")
    return version if isinstance(version, int) and not isinstance(version, bool) else -1


def _record_to_2(record: Content) -> Content:
    """Identity: variants and runtime digests; ``letters``; numbers that are not finite became ``null``."""
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


def _verdict_to_2(verdict: Content) -> Content:
    """Letters; and a speed policy no longer has a confidence, which is one for all that is shown, nor a seed."""
    inputs = _renamed(verdict.get("inputs") or {}, "metric", "source", "subject")
    if inputs.get("gate") == "speed":
        inputs["policy"] = {key: value for key, value in inputs["policy"].items() if key not in ("confidence", "seed")}
    return {**_renamed(verdict, "metric"), "inputs": inputs}


def _quality_to_2(baseline: Content) -> Content:
    metrics = {
        _RENAMED.get(name, name): _with_libraries(_renamed(metric, "version"))
        for name, metric in baseline.get("metrics", {}).items()
    }
    return {**baseline, "variant": "", "metrics": metrics}


def _perf_to_2(baseline: Content) -> Content:
    """Identity of each session; the engine's key was not stored."""
    engines = {}
    for name, engine in baseline.get("engines", {}).items():
        sessions = [
            {**_with_libraries(session), "key": "", "runtime_digest": ""} for session in engine.get("sessions", [])
        ]
        memory = engine.get("memory")
        engines[name] = {**engine, "sessions": sessions, "memory": memory and _with_libraries(memory)}
    return {**baseline, "engines": engines}


def _with_libraries(entry: Content) -> Content:
    provenance = entry.get("provenance")
    return {**entry, "provenance": {**provenance, "libraries": {}}} if isinstance(provenance, dict) else entry


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


RECORD: Mapping[int, Step] = {1: _record_to_2}
QUALITY: Mapping[int, Step] = {1: _quality_to_2}
PERF: Mapping[int, Step] = {1: _perf_to_2}
