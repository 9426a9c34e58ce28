"""The numbers of blocks at which a gate looks."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from enginegate.gates.robust import MIN_BLOCKS


def _increasing(looks: list[int]) -> list[int]:
    if looks != sorted(set(looks)):
        raise ValueError(f"{looks} do not increase: write each number of blocks once, the smallest first")
    return looks


#: Numbers of blocks. A gate that looked more often would only spend its error rate.
Looks = Annotated[
    list[Annotated[int, Field(ge=MIN_BLOCKS, le=10_000)]],
    Field(min_length=1, max_length=50),
    AfterValidator(_increasing),
]
