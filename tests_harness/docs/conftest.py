"""The engine fixtures and the conformance suite of tests_harness/engines, as a package outside it would take them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ENGINES = Path(__file__).parents[1] / "engines"

pytest.register_assert_rewrite("conformance")
if str(ENGINES) not in sys.path:
    sys.path.append(str(ENGINES))


def _engine_fixtures() -> ModuleType:
    name = "engine_fixtures"
    spec = importlib.util.spec_from_file_location(name, ENGINES / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


_fixtures = _engine_fixtures()
checkpoint, calibration = _fixtures.checkpoint, _fixtures.calibration
workshop, shared_engine = _fixtures.workshop, _fixtures.shared_engine
