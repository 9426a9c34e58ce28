"""What an option says of the gate of a live race, in place of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from enginegate.config.loading import Config
from enginegate.config.schema import GatesSection
from enginegate.core.errors import ConfigError
from enginegate.core.files import first_problem


@dataclass(frozen=True)
class Judging:
    """None: as the configuration says. ``margin``, ``tolerated``: of every metric, also on a GPU."""

    margin: float | None = None
    tolerated: float | None = None
    alpha: float | None = None
    beta: float | None = None
    looks: tuple[int, ...] | None = None

    def of(self, config: Config) -> Config:
        """The configuration with these. Raises ConfigError where they do not go together."""
        if self == AS_CONFIGURED:
            return config
        gates: dict[str, Any] = config.file.gates.model_dump(by_alias=True)
        margins = {"margin": self.margin, "tolerated": self.tolerated}
        for section in (gates["live"], *gates["live"]["gpu"].values()):
            section.update({name: value for name, value in margins.items() if value is not None})
        if self.looks is not None:
            gates["live"]["looks"] = list(self.looks)
        if self.alpha is not None:
            gates["alpha"] = self.alpha
        if self.beta is not None:
            gates["speed"]["beta"] = self.beta
        try:
            section = GatesSection.model_validate(gates)
        except ValidationError as error:
            raise ConfigError(
                f"the options of the gate do not go together: {first_problem(error)}",
                "give --margin below --tolerated, --alpha and --beta below 50%, --looks that increase",
            ) from error
        return replace(config, file=config.file.model_copy(update={"gates": section}))


#: Nothing otherwise than the configuration says.
AS_CONFIGURED = Judging()
