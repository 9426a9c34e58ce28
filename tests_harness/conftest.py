from __future__ import annotations

from hypothesis import settings

# A shared machine stalls now and then; how long an example took is not what these tests are about.
settings.register_profile("gates", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("gates")
