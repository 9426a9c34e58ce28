"""What a run record keeps of its session's gates: the one reader, which checks it when it is read from there."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from enginegate.core.errors import RecordError
from enginegate.core.files import first_problem
from enginegate.core.records import RunRecord
from enginegate.core.sections import Fraction, Section

Gates = TypeVar("Gates", bound=Section)


class SpeedAsWritten(Section):
    """What the configuration said of the speed gate, and no defaults.

    ``shift``: by metric, how far a ratio typically shifts from session to session.
    """

    margin: Fraction | None = None
    shift: dict[str, Fraction] = Field(default_factory=dict)


class _GatesAsWritten(Section):
    speed: SpeedAsWritten = SpeedAsWritten()


def kept_gates(record: RunRecord, section: type[Gates]) -> Gates:
    """The gates as the run was configured, as far as ``section`` has them; what it does not say has its default.

    Keys that the section does not have, as those of another version, are passed over. Raises RecordError where a value
    cannot be used.
    """
    configured = record.config.get("gates", {})
    try:
        return section.model_validate(_known(configured, section))
    except ValidationError as error:
        raise RecordError(
            f"the configuration that run {record.id} keeps of its gates is not usable: {first_problem(error)}",
            "restore the record, or record a new run",
        ) from error


def speed_as_written(record: RunRecord) -> SpeedAsWritten:
    """What the run's configuration says of the speed gate. Raises RecordError where a value cannot be used."""
    return kept_gates(record, _GatesAsWritten).speed


def _known(content: Any, section: type[BaseModel]) -> Any:
    """The content without keys that the section, or one within it, does not have."""
    if not isinstance(content, dict):
        return content
    found = {}
    for name, field in section.model_fields.items():
        if name in content:
            inner = field.annotation
            nested = isinstance(inner, type) and issubclass(inner, BaseModel)
            found[name] = _known(content[name], cast("type[BaseModel]", inner)) if nested else content[name]
    return found
