"""What building an engine costs: bytes on disk, and seconds (advisory)."""

import pytest

pytestmark = [pytest.mark.eg_perf, pytest.mark.eg_gates(0)]


@pytest.mark.usefixtures("built")
def test_engine_size(gate):
    assert gate.engine_size()


@pytest.mark.usefixtures("built")
def test_build_time(gate):
    assert gate.build_time()
