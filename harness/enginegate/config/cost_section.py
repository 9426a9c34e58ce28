"""What the machine costs, for the cost of tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from enginegate.core.sections import Section


class CostSection(Section):
    """``price_per_hour``: of the whole machine; null for none, and no costs are shown. ``currency``: of the price."""

    price_per_hour: Annotated[float, Field(gt=0, le=1e6)] | None = None
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
