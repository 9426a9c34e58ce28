"""What a run record keeps of its session's speed gate, which is checked when it is read from there."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from enginegate.core.errors import RecordError
from enginegate.core.files import first_problem
from enginegate.core.records import RunRecord
from enginegate.core.sections import Fraction


class SpeedAsWritten(BaseModel):
    """What the configuration said of the speed gate, and no defaults; other keys are passed over.

    ``shift``: by metric, how far a ratio typically shifts from session to session.
    """

    margin: Fraction | None = None
    shift: dict[str, Fraction] = Field(default_factory=dict)


class _Gates(BaseModel):
    speed: SpeedAsWritten = SpeedAsWritten()


def speed_as_written(record: RunRecord) -> SpeedAsWritten:
    """What the run's configuration says of the speed gate. Raises RecordError where a value cannot be used."""
    configured: Any = record.config.get("gates", {})
    try:
        return _Gates.model_validate(configured).speed
    except ValidationError as error:
        raise RecordError(
            f"the configuration that run {record.id} keeps of its gates is not usable: {first_problem(error)}",
            "restore the record, or record a new run",
        ) from error
