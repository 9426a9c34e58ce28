"""Which engine a figure belongs to, and which build of it.

*Which engine*: model, backend, precision, variant and runtime settings. Two figures of one series agree in these.
*Which build*: the content key of the built engine, and the versions beside it. A series may span many builds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from enginegate.core.specs import EngineSpec, RuntimeSpec, engine_id

#: Hexadecimal digits that are kept of a digest of settings; enough for the few that one project has.
_DIGEST_DIGITS = 12


def runtime_digest(runtime: RuntimeSpec | Mapping[str, Any]) -> str:
    """A digest of the settings that an engine is loaded with, by those that are not their default.

    So a setting that is added later, at its default, changes no digest. A value knows the defaults of all its settings.
    Of a stored mapping, which does not, those count that RuntimeSpec has no field for and that are set to something.
    """
    given = dict(runtime) if isinstance(runtime, Mapping) else asdict(runtime)
    defaults = {each.name: each.default for each in fields(RuntimeSpec if isinstance(runtime, Mapping) else runtime)}
    chosen = {name: value for name, value in given.items() if (value != defaults[name] if name in defaults else value)}
    canonical = json.dumps(chosen, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_DIGITS]


@dataclass(frozen=True)
class EngineRef:
    """One contestant, wherever it is named: in an arena, a record, a baseline, a history, the store, a table.

    Attributes:
        model, backend, precision: what was built, by whom.
        variant: what tells it from another engine of the same three: "" for the plain one, ``base`` for the live
            baseline, ``tp2`` for two devices, or the name of a variant in the configuration.
        runtime: digest of the settings it is loaded with, see ``runtime_digest``.
        key: content key of the built engine, 64 hexadecimal digits; "" where it is not built yet or not known.
    """

    model: str
    backend: str
    precision: str
    variant: str = ""
    runtime: str = ""
    key: str = ""

    @classmethod
    def of(cls, spec: EngineSpec, runtime: RuntimeSpec, key: str = "") -> EngineRef:
        """The reference of an engine by what it is built and loaded from."""
        return cls(spec.model, spec.backend, spec.precision, spec.variant, runtime_digest(runtime), key)

    @property
    def id(self) -> str:
        """The short name, for people and as a key within one session, in which no two engines share it."""
        return engine_id(self.model, self.backend, self.precision, self.variant)

    def same_engine(self, other: EngineRef) -> bool:
        """Whether both are one engine, in whatever build: keys may differ, everything else not."""
        return self._which == other._which

    @property
    def _which(self) -> tuple[str, ...]:
        return self.model, self.backend, self.precision, self.variant, self.runtime
