"""A pytest plugin that makes engines slower, to see on a real machine that the gates notice.

SLOWED=smollm2-135m-vllm-fp16=0.05 PYTHONPATH=scripts/gpu pytest -p slowed tests_perf/test_speedup.py
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from enginegate.engines.base import Engine
from enginegate.measure.slowed import SlowedContestant


class SlowedEngine(SlowedContestant):
    """A slowed contestant that is otherwise the engine it was made of."""

    def __init__(self, engine: Engine, slowdown: float) -> None:
        super().__init__(engine, slowdown)
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.hookimpl
def pytest_enginegate_engine_loaded(engine: Engine) -> Engine | None:
    """Slow the engines down that SLOWED names, each by its share of the time."""
    shares = dict(each.split("=") for each in os.environ["SLOWED"].split(","))
    if engine.spec.id not in shares:
        return None
    slowed: Any = SlowedEngine(engine, float(shares[engine.spec.id]))
    return slowed  # type: ignore[no-any-return]
