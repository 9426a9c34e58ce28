"""The items that quality is measured on: read from files of data, checked, and chosen from."""

from __future__ import annotations

import hashlib
import json
import sys
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import to_json

from enginegate.config.data_section import DataSection
from enginegate.core.errors import ConfigError
from enginegate.quality.columns import item_values
from enginegate.quality.tables import Row, read_mmlu, read_rows

#: Text with at least one character that is not white space.
Text = Annotated[str, StringConstraints(pattern=r"\S")]
#: What pydantic calls a text that is none.
_BLANK = "string_pattern_mismatch"
#: Of a question in MMLU's format.
LETTERS = "ABCD"
_LETTERS = "ABCDE"
MOST_CHOICES = len(_LETTERS)


class Item(BaseModel):
    """Something an engine is asked. Keys of a data file that an item has no field for are ignored.

    ``main``: the field whose length is that of the item.
    """

    main: ClassVar[str] = "text"

    model_config = ConfigDict(frozen=True, strict=True)

    @property
    def group(self) -> str:
        """The kind of item, over which a subset is spread."""
        return ""

    @abstractmethod
    def asked(self) -> dict[str, object]:
        """What decides the item's hash: everything that reaches an engine or a score, and nothing else."""

    @property
    def hash(self) -> str:
        """16 hexadecimal digits by which results of this item are kept."""
        return item_hash(self.asked())


class Prompt(Item):
    """One user message."""

    id: Text
    category: str
    text: Text

    @property
    def group(self) -> str:
        """The prompt's category."""
        return self.category

    def asked(self) -> dict[str, object]:
        """The message."""
        return {"prompt": self.text}


class Passage(Item):
    """Prose whose likelihood is measured."""

    id: Text
    topic: str
    text: Text

    @property
    def group(self) -> str:
        """The passage's topic."""
        return self.topic

    def asked(self) -> dict[str, object]:
        """The prose."""
        return {"passage": self.text}


class Article(Item):
    """An article with a summary written by a person."""

    id: Text
    title: str
    text: Text
    summary: Text

    def asked(self) -> dict[str, object]:
        """The article and the summary it is scored against."""
        return {"article": self.text, "summary": self.summary}


class Question(Item):
    """One multiple-choice question in the schema of ``cais/mmlu``.

    Attributes:
        choices: two to five, of which MMLU has four.
        answer: index of the right choice.
        copy_number: 0, or how many equal questions came before it: MMLU may repeat one, and each counts.
    """

    main: ClassVar[str] = "question"

    question: Text
    subject: str
    choices: Annotated[tuple[Text, ...], Field(min_length=2, max_length=MOST_CHOICES)]
    answer: Annotated[int, Field(ge=0)]
    copy_number: int = 0

    @model_validator(mode="after")
    def _answered(self) -> Question:
        if self.answer >= len(self.choices):
            last = len(self.choices) - 1
            raise ValueError(f"the answer {self.answer} is none of 0 to {last}, the indices of its choices")
        return self

    @property
    def letters(self) -> str:
        """A letter for each choice."""
        return _LETTERS[: len(self.choices)]

    @property
    def group(self) -> str:
        """The question's subject."""
        return self.subject

    def asked(self) -> dict[str, object]:
        """Question, subject, choices and answer."""
        asked: dict[str, object] = {
            "question": self.question,
            "subject": self.subject,
            "choices": self.choices,
            "answer": self.answer,
        }
        return asked | {"copy": self.copy_number} if self.copy_number else asked


ItemType = TypeVar("ItemType", bound=Item)
IdentifiedType = TypeVar("IdentifiedType", Prompt, Passage, Article)


def item_hash(content: Mapping[str, object]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of ``content`` as canonical JSON (sorted keys, no spaces, UTF-8)."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def load_prompts(path: Path) -> list[Prompt]:
    """Read prompts: rows with ``id``, ``category`` and ``text``. Raises ConfigError."""
    return list(read_items(path, Prompt).values())


def load_passages(path: Path) -> list[Passage]:
    """Read passages: rows with ``id``, ``topic`` and ``text``. Raises ConfigError."""
    return list(read_items(path, Passage).values())


def load_articles(path: Path) -> list[Article]:
    """Read articles: rows with ``id``, ``title``, ``text`` and ``summary``. Raises ConfigError."""
    return list(read_items(path, Article).values())


def load_questions(path: Path, split: str = "test") -> list[Question]:
    """Read multiple-choice questions; see ``read_questions``. Raises ConfigError."""
    return list(read_questions(path, split=split).values())


def read_items(path: Path, kind: type[IdentifiedType], section: DataSection | None = None) -> dict[str, IdentifiedType]:
    """The items of a file, by the place of each (``FILE, line 7``).

    Args:
        path: a file that ``read_rows`` can read.
        kind: what its rows are.
        section: what the configuration says of the file.

    Raises:
        ConfigError: it is missing, empty or of another format; a column is missing, a row is no item, or an id or a
            text is there twice.
    """
    items = _items(read_rows(path, section.format if section else None), path, kind, section)
    _refuse_repeats(items, "id", lambda item: item.id)
    _refuse_repeats(items, "text", lambda item: item.hash)
    return items


def read_questions(path: Path, section: DataSection | None = None, split: str = "test") -> dict[str, Question]:
    """Multiple-choice questions, by the place of each. One that is there again is counted as a copy.

    Args:
        path: rows in the schema of ``cais/mmlu`` (``question``, ``subject``, ``choices``, ``answer``), or a folder with
            the original MMLU files ``SUBJECT_{split}.csv`` (no header: question, A, B, C, D, letter), in itself or in
            a folder ``split`` inside.
        section: what the configuration says of the file.
        split: ``test``, ``dev`` or ``val``; only used with a folder.

    Raises:
        ConfigError: a missing or empty file, or a row that is no question.
    """
    rows = read_mmlu(path, split) if path.is_dir() else read_rows(path, section.format if section else None)
    questions = _items(rows, path, Question, section)
    seen: Counter[str] = Counter()
    numbered = {}
    for place, question in questions.items():
        numbered[place] = question.model_copy(update={"copy_number": seen[question.hash]})
        seen[question.hash] += 1
    return numbered


def hold_out(questions: Iterable[Question], count: int) -> list[Question]:
    """The ``count`` shortest questions of each subject, to be shown as examples; subjects and examples by hash.

    The choice depends on the questions alone, not on their order. Equal questions count once.

    Raises ConfigError for a subject of which nothing would be left to ask.
    """
    subjects: dict[str, dict[tuple[str, ...], Question]] = defaultdict(dict)
    for question in sorted(questions, key=lambda each: (each.copy_number, each.hash)):
        subjects[question.subject].setdefault(_wording(question), question)
    examples = []
    for subject, distinct in subjects.items() if count else ():
        if len(distinct) <= count:
            raise ConfigError(
                f"subject {subject!r} has {len(distinct)} different questions: {count} cannot be held out as examples",
                "show fewer (quality.num_fewshot), or name examples of their own (quality.questions.examples)",
            )
        shortest = sorted(distinct.values(), key=lambda each: (len("".join(_wording(each))), each.hash))[:count]
        examples += sorted(shortest, key=lambda each: each.hash)
    return examples


def without(questions: Mapping[str, Question], examples: Iterable[Question]) -> dict[str, Question]:
    """The questions, by place, that no example answers: one with the same text and choices is none of them."""
    shown = {_wording(example) for example in examples}
    return {place: question for place, question in questions.items() if _wording(question) not in shown}


def _wording(question: Question) -> tuple[str, ...]:
    return (question.question, *question.choices)


def take(items: Sequence[ItemType], count: int | None) -> list[ItemType]:
    """A subset of ``count`` items spread evenly over the groups; all items where ``count`` is None or too large.

    Each group is put in the order of its items' hashes and the groups are dealt from in turn. The choice depends on
    the items' content alone, not on the order of the file, and a longer file keeps it as far as it can: adding
    items never brings in an old item that was not taken before. The result has the order of ``items``.
    """
    if count is None or count >= len(items):
        return list(items)
    if count < 1:
        raise ConfigError(f"a subset of {count} items was asked for", "ask for one item or more")
    groups: dict[str, list[str]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item.hash)
    turns = sorted((turn, name) for names in groups.values() for turn, name in enumerate(sorted(names)))
    taken = {name for _, name in turns[:count]}
    return [item for item in items if item.hash in taken]


def _refuse_repeats(items: Mapping[str, IdentifiedType], what: str, key: Callable[[IdentifiedType], str]) -> None:
    first: dict[str, str] = {}
    for place, item in items.items():
        earlier = first.setdefault(key(item), place)
        if earlier != place:
            raise ConfigError(
                f"{place}: the {what} of item {item.id!r} was already used on {earlier.rpartition(', ')[2]}",
                f"give every item a {what} of its own, or take the row out",
            )


def _items(rows: Iterable[Row], path: Path, kind: type[ItemType], section: DataSection | None) -> dict[str, ItemType]:
    """The items of rows by their places; those of another length than is asked for are left out."""
    columns = section.columns if section else {}
    least, most = (section.characters if section else None) or (0, sys.maxsize)
    items, left_out = {}, 0
    for row in rows:
        values = item_values(row, list(kind.model_fields), columns)
        if values is None:
            continue
        text = values.get(kind.main)
        if isinstance(text, str) and not least <= len(text.strip()) <= most:
            left_out += 1
            continue
        try:
            items[row.place] = kind.model_validate_json(to_json(values))
        except ValidationError as error:
            raise ConfigError(f"{row.place}: {_first_problem(error)}", _hint(error, kind)) from error
    if not items and left_out:
        raise ConfigError(
            f"{path} holds no {kind.__name__.lower()} of {least} to {most} characters, but {left_out} others",
            "widen characters in the configuration",
        )
    if not items:
        raise ConfigError(f"{path} is empty: it holds no {kind.__name__.lower()}", "add items or name another file")
    return items


def _required(kind: type[Item]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if field.is_required()]


def _hint(error: ValidationError, kind: type[Item]) -> str:
    if error.errors()[0]["type"] == _BLANK:
        return "take the row out, or leave short ones out by characters: [LEAST, MOST] in the configuration"
    return f"give every row the keys {', '.join(_required(kind))}, or say under columns which ones they are"


def _first_problem(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    problem = "it is blank" if detail["type"] == _BLANK else detail["msg"]
    return f"{where}: {problem}" if where else problem
