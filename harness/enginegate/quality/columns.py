"""From a row of a file to the values of an item: which column is which field, and how a set writes its answers."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from enginegate.core.errors import ConfigError
from enginegate.core.spelling import did_you_mean
from enginegate.quality.tables import Row

#: Fields that tell items apart for people and for subsets; no score needs them.
_LABELS = ("category", "topic", "title", "subject")
#: Fields that hold what is asked or read.
_TEXTS = ("question", "choices", "text", "summary")
_LETTERS = list(string.ascii_uppercase)
_LETTERED = re.compile(r"\n\s*([A-Z])[.)] ")


def item_values(row: Row, fields: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """The values of an item's fields; None for a row that repeats the header.

    Args:
        row: the row. Without ``columns`` its own keys are the fields.
        fields: of the item.
        columns: the file's name of a field; of ``choices`` there may be several. With them, labels that the file lacks
            are empty, and an item without an id is called after its row.

    Raises:
        ConfigError: a column is missing, or an answer is none of the choices.
    """
    if not columns:
        return _with_index(dict(row.values), row)
    values = {name: row.values[name] for name in fields if name in row.values}
    values |= {name: _column(row, named) for name, named in columns.items()}
    if _repeats_header(values, columns):
        return None
    for label in _LABELS:
        values.setdefault(label, "")
    values["id"] = str(values.get("id", row.number))
    return _with_index(values, row)


def _column(row: Row, names: Sequence[str]) -> Any:
    for name in names:
        if name not in row.values:
            there = [str(each) for each in row.values]
            raise ConfigError(
                f"{row.place}: there is no column {name!r}; it has {', '.join(there) or 'none'}"
                f"{did_you_mean(name, there)}",
                "correct columns in the configuration",
            )
    return row.values[names[0]] if len(names) == 1 else [row.values[name] for name in names]


def _repeats_header(values: Mapping[str, Any], columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether every column that holds a text has its own name in it, as where files with headers were joined."""
    texts = {name: list(named) for name, named in columns.items() if name in _TEXTS}
    return bool(texts) and all(_as_list(values[name]) == named for name, named in texts.items())


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _with_index(values: dict[str, Any], row: Row) -> dict[str, Any]:
    """The values with an answer as the index of its choice, where it is a letter, a label or the text of one.

    Choices may be a list, ``{"text": [...], "label": [...]}`` as in several sets on the Hub, or one text with a
    lettered line for each, whose answer is such a line.
    """
    if "choices" not in values:
        return values
    choices, answer = values["choices"], values.get("answer")
    labels: Sequence[Any] = _LETTERS
    if isinstance(choices, Mapping) and isinstance(choices.get("label"), list):
        labels, choices = choices["label"], choices.get("text")
    elif isinstance(choices, str):
        _, *parts = _LETTERED.split(f"\n{choices}")
        if not parts or parts[::2] != _LETTERS[: len(parts) // 2]:
            raise ConfigError(
                f"{row.place}: the choices {choices[:40]!r} are no list, and no lines lettered from A",
                "repair the row, or name the columns of the choices one by one",
            )
        choices = [part.strip() for part in parts[1::2]]
    if isinstance(choices, list) and isinstance(answer, str):
        answer = _index(answer, choices, labels[: len(choices)], row)
    return {**values, "choices": choices, "answer": answer}


def _index(answer: str, choices: Sequence[Any], labels: Sequence[Any], row: Row) -> int:
    written = " ".join(answer.split())
    lettered = [" ".join(f"{label}. {choice}".split()) for label, choice in zip(labels, choices, strict=False)]
    for names in (labels, lettered, [str(number) for number in range(len(choices))]):
        if written in names:
            return names.index(written)
    raise ConfigError(
        f"{row.place}: the answer {answer[:40]!r} is none of {', '.join(map(str, labels))}",
        "repair the row: an answer is the letter of the right choice, or its index from 0",
    )
