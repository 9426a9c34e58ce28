"""Hooks that a conftest.py may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from enginegate.engines.base import Engine


@pytest.hookspec(firstresult=True)
def pytest_enginegate_engine_loaded(engine: Engine) -> Engine | None:
    """An engine was loaded and is about to be checked and used; return another to be used in its place.

    What is returned must keep the Engine protocol. The harness's own tests use this to slow an engine down and to see
    that the gates notice.
    """
