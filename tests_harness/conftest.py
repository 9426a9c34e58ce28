from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

#: Stand-ins, the backend "fake" among them, which is found there as any third party's would be.
FAKES = str(Path(__file__).parent / "fakes")
if FAKES not in sys.path:
    sys.path.insert(0, FAKES)

# pytest reads this file too where it takes an option's value for a path, and then perhaps without hypothesis.
with suppress(ImportError):
    from hypothesis import settings

    # A shared machine stalls now and then; how long an example took is not what these tests are about.
    settings.register_profile("gates", deadline=None, max_examples=60, derandomize=True)
    settings.load_profile("gates")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    config.addinivalue_line(
        "markers", "heavy: takes more than 20 seconds, or installs something; make test-all runs it"
    )
    config.addinivalue_line("markers", "alone: times engines for a verdict; make test-all runs it last, beside nothing")
