"""Reading what the suite itself wrote: one way for records, baselines and audits, which fails closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from enginegate.core.errors import EngineGateError
from enginegate.core.files import first_problem
from enginegate.core.records import Stored
from enginegate.storage.migration import Step, migrate

Kind = TypeVar("Kind", bound=Stored)


@dataclass(frozen=True)
class Format(Generic[Kind]):
    """One kind of file.

    Attributes:
        kind: the model that its content must fit.
        what: its name in messages, e.g. ``baseline``.
        schema: the version that is read.
        steps: how older versions become that one.
        error: what is raised.
        hint: what to do about a file that cannot be used.
    """

    kind: type[Kind]
    what: str
    schema: int
    steps: Mapping[int, Step]
    error: type[EngineGateError]
    hint: str

    def read(self, path: Path) -> Kind | None:
        """The file's content, migrated where it is of an older schema; None where there is no file.

        Raises ``error`` where it cannot be read, is damaged, or is of a schema that this version does not know.
        """
        from pydantic import ValidationError

        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.error(
                f"{self.what} {path} cannot be read: {error.strerror or error}", "check the path and its permissions"
            ) from error
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise self.error(f"{self.what} {path} is not valid JSON ({error}); it may be cut off", self.hint) from error
        if not isinstance(content, dict) or "schema_version" not in content:
            raise self.error(f"{path} is JSON, but not a {self.what}", self.hint)
        try:
            content = migrate(content, self.steps)
            if content["schema_version"] != self.schema:
                raise self.error(
                    f"{self.what} {path} has schema version {content['schema_version']}; this enginegate reads "
                    f"versions up to {self.schema}",
                    f"read it with the enginegate that wrote it; else {self.hint}",
                )
            return self.kind.model_validate(content)
        except (ValidationError, ValueError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise self.error(f"{self.what} {path} is damaged: {problem}", self.hint) from error
