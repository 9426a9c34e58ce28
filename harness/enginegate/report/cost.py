"""What a million tokens cost at the speed that was measured, where the price of the machine is given."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from enginegate.config.cost_section import CostSection
from enginegate.core.records import RunRecord

_SECONDS, _MILLION = 3600.0, 1e6


@dataclass(frozen=True)
class Price:
    """Of the whole machine for an hour."""

    per_hour: float
    currency: str

    def of_a_million(self, tokens_per_second: float) -> float:
        """Price of a million tokens at a rate: price an hour / (tokens a second x 3,600) x 1,000,000."""
        return self.per_hour / (tokens_per_second * _SECONDS) * _MILLION

    @property
    def note(self) -> str:
        """What the columns mean."""
        return (
            f"Cost: {self.currency} of a million tokens at {self.per_hour:g} {self.currency} an hour and the measured"
            " speed, with the machine at this work all the time: of output tokens alone, and of input and output"
            " together."
        )


def price_of(record: RunRecord) -> Price | None:
    """The price that a run was given; None without one, or where what its record keeps is none."""
    try:
        section = CostSection.model_validate(record.config.get("cost") or {})
    except ValidationError:
        return None
    return None if section.price_per_hour is None else Price(section.price_per_hour, section.currency)
