from __future__ import annotations

from contextlib import suppress

# pytest reads this file too where it takes an option's value for a path, and then perhaps without hypothesis.
with suppress(ImportError):
    from hypothesis import settings

    # A shared machine stalls now and then; how long an example took is not what these tests are about.
    settings.register_profile("gates", deadline=None, max_examples=60, derandomize=True)
    settings.load_profile("gates")
