"""What a run record keeps of its session's configuration, which is checked when it is read from there."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel, ValidationError

from enginegate.config.schema import GatesSection
from enginegate.core.errors import RecordError
from enginegate.core.files import first_problem
from enginegate.core.records import RunRecord


def gates(record: RunRecord | None) -> GatesSection:
    """The gates as the run was configured; what it does not say has its default, as all has where there is no record.

    Keys that a later version no longer has are passed over. Raises RecordError where a value cannot be used.
    """
    if record is None:
        return GatesSection()
    configured = record.config.get("gates", {})
    try:
        return GatesSection.model_validate(_known(configured, GatesSection))
    except ValidationError as error:
        raise RecordError(
            f"the configuration that run {record.id} keeps of its gates is not usable: {first_problem(error)}",
            "restore the record, or record a new run",
        ) from error


def speed_as_written(record: RunRecord) -> dict[str, Any]:
    """What the run's configuration says of the speed gate, and no defaults. Raises RecordError as ``gates`` does."""
    gates(record)
    found: dict[str, Any] = record.config.get("gates", {}).get("speed", {})
    return found


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
