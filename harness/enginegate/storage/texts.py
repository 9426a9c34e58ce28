"""What the engines of a run wrote, beside its record: texts for people, which no gate reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from enginegate.core.errors import RecordError
from enginegate.core.files import to_json, write_atomically
from enginegate.core.records import AnswersEntry, QualityEntry, RunRecord, Stored, TextEntry
from enginegate.storage.reading import Format

#: The name of the file, in the folder of the record.
TEXTS_NAME = "texts.json"
#: Raised when the meaning of a stored field changes.
SCHEMA = 1


class MetricTexts(Stored):
    """The texts of one metric.

    Attributes:
        prompts: what was asked, by item hash.
        references: what answers are compared with, by item hash; of merged shards, the first shard's.
        answers: what each engine wrote, by its id and by item hash.
    """

    prompts: dict[str, str] = Field(default_factory=dict)
    references: dict[str, TextEntry] = Field(default_factory=dict)
    answers: dict[str, dict[str, TextEntry]] = Field(default_factory=dict)


class RunTexts(Stored):
    """The texts of one run, by metric."""

    schema_version: int = SCHEMA
    run: str
    metrics: dict[str, MetricTexts]


def texts_of(record: RunRecord) -> RunTexts:
    """The texts that a record holds before it is written."""
    metrics: dict[str, MetricTexts] = {}
    for entry in record.quality:
        if entry.texts is not None:
            before = metrics.get(entry.metric, MetricTexts())
            metrics[entry.metric] = MetricTexts(
                prompts=entry.texts.prompts | before.prompts,
                references=entry.texts.references | before.references,
                answers={**before.answers, entry.engine: entry.texts.answers},
            )
    return RunTexts(run=record.id, metrics=metrics)


def save_texts(record: RunRecord, folder: Path) -> None:
    """Write the texts into a run's folder; nothing where it has none. Raises OSError."""
    texts = texts_of(record)
    if texts.metrics:
        write_atomically(folder / TEXTS_NAME, to_json(texts.model_dump(mode="json")))


def load_texts(folder: Path) -> RunTexts | None:
    """The texts in a run's folder; None where it has none, as runs of older versions. Raises RecordError."""
    return FORMAT.read(folder / TEXTS_NAME)


def with_texts(record: RunRecord, texts: RunTexts | None) -> RunRecord:
    """A record that was read, with its texts."""
    metrics = {} if texts is None else texts.metrics
    return record.model_copy(
        update={"quality": [_with_texts(entry, metrics.get(entry.metric)) for entry in record.quality]}
    )


def _with_texts(entry: QualityEntry, texts: MetricTexts | None) -> QualityEntry:
    if texts is None or entry.engine not in texts.answers:
        return entry
    answers = texts.answers[entry.engine]
    known = AnswersEntry(prompts=texts.prompts, answers=answers, references=texts.references)
    return entry.model_copy(update={"texts": known})


def _problem(texts: RunTexts) -> str | None:
    """The first text that is no answer of a known prompt, or whose tokens do not end in it, in order; or None."""
    for metric, found in texts.metrics.items():
        for who, written in (("the references", found.references), *found.answers.items()):
            for item, text in written.items():
                where = f"{metric} of {who}, item {item}"
                if item not in found.prompts:
                    return f"{where}: there is no prompt"
                if len(text.tokens) != len(text.ends):
                    return f"{where}: {len(text.tokens)} tokens, and the ends of {len(text.ends)}"
                if text.ends != sorted(text.ends) or (text.ends and text.ends[-1] != len(text.text)):
                    return f"{where}: the ends of its tokens do not lead to the end of its text"
    return None


FORMAT = Format(
    RunTexts,
    "file of texts",
    SCHEMA,
    {},
    RecordError,
    "restore it; or remove it: records and verdicts need it for nothing",
    _problem,
)
