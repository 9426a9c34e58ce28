"""What a backend must do, as tests that its own package can run (docs/adding_a_backend.md).

In a ``conftest.py``: ``from enginegate.testing.fixtures import *``. In a test file: a subclass of ``Conformance``,
named ``Test...``, that says which backend and precision it is about. ``save_tiny_llama`` writes the model of random
weights that they work on, for tests of one's own.
"""

import pytest

# Before it is imported: a failed assertion says what it compared, as in a test file of one's own.
pytest.register_assert_rewrite("enginegate.testing.conformance")

from enginegate.testing.conformance import Conformance, prompts  # noqa: E402
from enginegate.testing.fixtures import Workshop  # noqa: E402
from enginegate.testing.tiny_llama import SHAPE, save_tiny_llama  # noqa: E402

__all__ = ["SHAPE", "Conformance", "Workshop", "prompts", "save_tiny_llama"]
