"""The data sets of the quality tests: from what a configuration names to the items that are asked.

Each is resolved, read and checked in one go, so that a fault can be found before an engine is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic

from enginegate.config.data_section import DATA_KEYS, DataSection, QuestionsSection
from enginegate.config.loading import Config
from enginegate.config.project import own_folder
from enginegate.core.cache import Progress, cache_folder
from enginegate.core.errors import ConfigError, ModelError
from enginegate.core.records import DataEntry, QualityEntry
from enginegate.models.data_sets import DataFile, resolve_data
from enginegate.quality.data import (
    Article,
    IdentifiedType,
    ItemType,
    Passage,
    Prompt,
    Question,
    hold_out,
    read_items,
    read_questions,
    take,
    without,
)
from enginegate.quality.perplexity import PREFILL
from enginegate.quality.text import Tokenizer

#: How a subset is chosen; see ``take``.
SUBSET = "evenly over the groups by hash"
#: Where examples come from that have no source of their own; see ``hold_out``.
HELD_OUT = "held out: the shortest of each subject"
#: The split of a folder of MMLU's own files that its examples come from.
_DEV = "dev"
#: Subjects that an error names.
_NAMED = 5


@dataclass(frozen=True)
class DataSet(Generic[ItemType]):
    """Items of one key of ``quality``.

    Attributes:
        items: in the order of their file, those that ``limit`` leaves.
        places: where each stands (``FILE, line 7``), by its hash.
        name: the source as the configuration names it; of the suite's own sets ``enginegate:questions/test.jsonl``.
        digest: SHA-256 of the file.
        size: how many items there are without ``limit``.
        examples: answered questions, those of its subject to be shown before each question.
        shots: how many of each subject.
        examples_from: where they come from; empty without any.
    """

    items: list[ItemType]
    places: Mapping[str, str]
    name: str
    digest: str
    size: int
    examples: Sequence[Question] = field(default=())
    shots: int = 0
    examples_from: str = ""

    def entry(self, asked: int) -> DataEntry:
        """What a record says of the set, of which ``asked`` items were asked."""
        subset = SUBSET if asked < self.size else ""
        return DataEntry(
            name=self.name,
            digest=self.digest,
            size=self.size,
            subset=subset,
            shots=self.shots,
            examples=self.examples_from,
        )


def _quiet(_: str) -> None:
    pass


def prompts(config: Config, progress: Progress = _quiet) -> DataSet[Prompt]:
    """The user messages. Raises ConfigError, as all of these do."""
    return _identified(config, "prompts", Prompt, progress)


def articles(config: Config, progress: Progress = _quiet) -> DataSet[Article]:
    """The articles with summaries."""
    return _identified(config, "articles", Article, progress)


def passages(config: Config, progress: Progress = _quiet) -> DataSet[Passage]:
    """The prose."""
    return _identified(config, "passages", Passage, progress)


def questions(config: Config, progress: Progress = _quiet) -> DataSet[Question]:
    """The questions, and the answered examples that they are asked behind. What an example answers is not asked."""
    section, shots = _section(config), config.file.quality.num_fewshot
    file = _file(config, "questions", section, progress)
    found = _read(file, Question, section)
    held_out = shots if section.examples is None else section.examples
    if isinstance(held_out, str):
        own = section.for_examples()
        origin = f"of {_name(config, held_out)}"
        examples = list(_read(_file(config, "questions.examples", own, progress), Question, own, _DEV).values())
    elif section.examples is None and shots and file.path.is_dir():
        origin, examples = f"of the split {_DEV}", list(_read(file, Question, section.for_examples(), _DEV).values())
    else:
        origin, examples = HELD_OUT, hold_out(found.values(), held_out)
    asked = without(found, examples)
    shown = _first_of_each(examples, shots)
    whole = _data_set(config, section, file, asked)
    _refuse_lack(whole.items, shown, shots, f"{file.path}: examples {origin}")
    return replace(whole, examples=shown, shots=shots, examples_from=origin) if shots else whole


#: By the key of ``quality``: how its set is had, and the metrics that ask its items.
_SETS: Mapping[str, tuple[Callable[[Config, Progress], DataSet[Any]], tuple[str, ...]]] = {
    "prompts": (prompts, ("similarity", "determinism")),
    "articles": (articles, ("summaries",)),
    "passages": (passages, ("perplexity", "divergence")),
    "questions": (questions, ("letters", "cloze")),
}


def data_set(config: Config, metric: str, progress: Progress = _quiet) -> DataSet[Any] | None:
    """The set whose items a metric asks; None of one that brings its own. Raises ConfigError."""
    for load, metrics in _SETS.values():
        if metric in metrics:
            return load(config, progress)
    return None


def with_data(entry: QualityEntry, config: Config) -> QualityEntry:
    """The entry with what a record says of the set that it asked."""
    data = data_set(config, entry.metric)
    return entry if data is None else entry.model_copy(update={"data": data.entry(len(entry.items))})


def resolve_sets(config: Config, progress: Progress = _quiet) -> dict[str, str]:
    """Digests of the files of data, by the keys that name them, once they are on this disk. Raises ConfigError."""
    named = {key: config.data(key) for key in DATA_KEYS}
    if isinstance(_section(config).examples, str):
        named["questions.examples"] = _section(config).for_examples()
    return {key: _file(config, key, section, progress).digest for key, section in named.items()}


def check_tokens(data: DataSet[Any], tokenizer: Tokenizer) -> None:
    """Raise ConfigError for a text without a token of the model, or prose too short to reach a decode step.

    A question has tokens in any case, those of its format.
    """
    for item in data.items:
        if isinstance(item, Question):
            continue
        least = PREFILL + 1 if isinstance(item, Passage) else 1
        count = len(tokenizer.encode(getattr(item, item.main)))
        if count < least:
            raise ConfigError(
                f"{data.places[item.hash]}: the text has {count} tokens, and {least} is the least",
                "take the row out, or leave short ones out by characters: [LEAST, MOST] in the configuration",
            )


def _section(config: Config) -> QuestionsSection:
    section = config.data("questions")
    assert isinstance(section, QuestionsSection)
    return section


def _identified(config: Config, key: str, kind: type[IdentifiedType], progress: Progress) -> DataSet[IdentifiedType]:
    section = config.data(key)
    file = _file(config, key, section, progress)
    return _data_set(config, section, file, _read(file, kind, section))


def _read(file: DataFile, kind: type[ItemType], section: DataSection, split: str = "test") -> Mapping[str, ItemType]:
    """The items of a file by place; each is read once for all metrics and engines."""
    return _read_once(file, kind, section.model_dump_json(), split)


@lru_cache(maxsize=8)
def _read_once(file: DataFile, kind: type[Any], section: str, split: str) -> Mapping[str, Any]:
    if kind is Question:
        return MappingProxyType(read_questions(file.path, QuestionsSection.model_validate_json(section), split))
    return MappingProxyType(read_items(file.path, kind, DataSection.model_validate_json(section)))


def _data_set(config: Config, section: DataSection, file: DataFile, items: Mapping[str, ItemType]) -> DataSet[ItemType]:
    places = {item.hash: place for place, item in items.items()}
    taken = take(list(items.values()), section.limit)
    return DataSet(taken, places, _name(config, section.source), file.digest, len(items))


def _file(config: Config, key: str, section: DataSection, progress: Progress) -> DataFile:
    source = config.data_source(section.source)
    try:
        return resolve_data(source, cache=cache_folder(), sha256=section.sha256, progress=progress)
    except ModelError as error:
        raise ConfigError(f"{config.path}: quality.{key}: {error.problem}", error.hint) from error


def _name(config: Config, written: str) -> str:
    """A source as it is written; the suite's own data, which are nobody else's set, by a name of their own."""
    source = config.data_source(written)
    own = own_folder("enginegate.fixtures.data").resolve()
    path = source.removeprefix("path:")
    if source != path and path.startswith(f"{own}/"):
        return f"enginegate:{path.removeprefix(f'{own}/')}"
    return written.removeprefix("path:")


def _first_of_each(examples: Iterable[Question], count: int) -> list[Question]:
    """The first examples of each subject."""
    shown: dict[str, list[Question]] = {}
    for example in examples:
        shown.setdefault(example.subject, []).append(example)
    return [example for each in shown.values() for example in each[:count]]


def _refuse_lack(asked: Sequence[Question], shown: Sequence[Question], shots: int, origin: str) -> None:
    """Raise ConfigError where a subject that is asked has fewer examples than are to be shown."""
    subjects = [example.subject for example in shown]
    lacking = sorted({question.subject for question in asked if subjects.count(question.subject) < shots})
    if lacking:
        named = ", ".join(f"{subject!r} ({subjects.count(subject)})" for subject in lacking[:_NAMED])
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        raise ConfigError(
            f"{origin}: fewer than {shots} for {len(lacking)} subjects: {named}{more}",
            "show fewer (quality.num_fewshot), or name a source that has them (quality.questions.examples)",
        )
