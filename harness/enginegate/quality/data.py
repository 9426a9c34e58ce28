"""The items that quality is measured on, read from JSON lines or from the original MMLU folder, and checked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from enginegate.core.errors import ConfigError

#: Text with at least one character that is not white space.
Text = Annotated[str, StringConstraints(pattern=r"\S")]
LETTERS = "ABCD"


class Item(BaseModel):
    """Something an engine is asked. Keys of a data file that an item has no field for are ignored."""

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
        answer: index of the right choice, 0 to 3.
        copy_number: 0, or how many equal questions came before it: MMLU may repeat one, and each counts.
    """

    question: Text
    subject: str
    choices: tuple[str, str, str, str]
    answer: Annotated[int, Field(ge=0, le=3)]
    copy_number: int = 0

    @property
    def group(self) -> str:
        """The question's subject."""
        return self.subject

    def asked(self) -> dict[str, object]:
        """Question, subject, choices and answer."""
        asked: dict[str, object] = self.model_dump(mode="json", exclude={"copy_number"})
        return asked | {"copy": self.copy_number} if self.copy_number else asked


ItemType = TypeVar("ItemType", bound=Item)
IdentifiedType = TypeVar("IdentifiedType", Prompt, Passage, Article)


def item_hash(content: Mapping[str, object]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of ``content`` as canonical JSON (sorted keys, no spaces, UTF-8)."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def load_prompts(path: Path) -> list[Prompt]:
    """Read prompts: JSON lines with ``id``, ``category`` and ``text``. Raises ConfigError."""
    return _identified(path, Prompt)


def load_passages(path: Path) -> list[Passage]:
    """Read passages: JSON lines with ``id``, ``topic`` and ``text``. Raises ConfigError."""
    return _identified(path, Passage)


def load_articles(path: Path) -> list[Article]:
    """Read articles: JSON lines with ``id``, ``title``, ``text`` and ``summary``. Raises ConfigError."""
    return _identified(path, Article)


def load_questions(path: Path, split: str = "test") -> list[Question]:
    """Read multiple-choice questions.

    Args:
        path: JSON lines in the schema of ``cais/mmlu`` (``question``, ``subject``, ``choices``, ``answer``), or a
            folder with the original MMLU files ``SUBJECT_{split}.csv`` (no header: question, A, B, C, D, letter),
            in itself or in a folder ``split`` inside.
        split: ``test``, ``dev`` or ``val``; only used with a folder.

    Raises:
        ConfigError: a missing or empty file, or a line that is no question.
    """
    questions = _mmlu_folder(path, split) if path.is_dir() else [item for _, item in _json_lines(path, Question)]
    seen: Counter[str] = Counter()
    numbered = []
    for question in questions:
        numbered.append(question.model_copy(update={"copy_number": seen[question.hash]}))
        seen[question.hash] += 1
    return numbered


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


def _identified(path: Path, kind: type[IdentifiedType]) -> list[IdentifiedType]:
    lines = _json_lines(path, kind)
    _refuse_repeats(path, lines, "id", lambda item: item.id)
    _refuse_repeats(path, lines, "text", lambda item: item.hash)
    return [item for _, item in lines]


def _refuse_repeats(
    path: Path, lines: Iterable[tuple[int, IdentifiedType]], what: str, key: Callable[[IdentifiedType], str]
) -> None:
    first: dict[str, int] = {}
    for number, item in lines:
        earlier = first.setdefault(key(item), number)
        if earlier != number:
            raise ConfigError(
                f"{path}, line {number}: the {what} of item {item.id!r} was already used on line {earlier}",
                f"give every item a {what} of its own",
            )


def _json_lines(path: Path, kind: type[ItemType]) -> list[tuple[int, ItemType]]:
    """The items of a file, each with its line number; blank lines are skipped."""
    items = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            items.append((number, kind.model_validate_json(line)))
        except ValidationError as error:
            raise ConfigError(
                f"{path}, line {number}: {_first_problem(error)}",
                f"write one JSON object a line with the keys {', '.join(_required(kind))}",
            ) from error
    if not items:
        raise ConfigError(f"{path} is empty: it holds no {kind.__name__.lower()}", "add items or name another file")
    return items


def _mmlu_folder(folder: Path, split: str) -> list[Question]:
    pattern = f"*_{split}.csv"
    files = sorted(folder.glob(pattern)) or sorted((folder / split).glob(pattern))
    if not files:
        raise ConfigError(
            f"{folder} has no file {pattern}, in itself or in {split}/",
            "name a JSON-lines file, or the data folder of the original MMLU",
        )
    return [question for file in files for question in _mmlu_file(file, file.name.removesuffix(pattern[1:]))]


def _mmlu_file(path: Path, subject: str) -> list[Question]:
    questions = []
    reader = csv.reader(io.StringIO(_read_text(path), newline=""))
    try:
        for row in reader:
            if len(row) != 6 or row[5].strip() not in tuple(LETTERS):
                raise ConfigError(
                    f"{path}, line {reader.line_num}: not a question, four choices and a letter A to D",
                    "use the CSV files as MMLU publishes them, without a header",
                )
            questions.append(
                Question(
                    question=row[0],
                    subject=subject,
                    choices=(row[1], row[2], row[3], row[4]),
                    answer=LETTERS.index(row[5].strip()),
                )
            )
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}", "repair the CSV file") from error
    except ValidationError as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {_first_problem(error)}", "repair the CSV file") from error
    return questions


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"data file {path} does not exist", "check the path in the configuration") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data file {path} cannot be read: {error}", "give a readable UTF-8 text file") from error


def _required(kind: type[Item]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if field.is_required()]


def _first_problem(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]
