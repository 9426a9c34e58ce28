"""enginegate's fixtures, for the tests of this folder alone."""

from enginegate.fixtures.suite import *  # noqa: F403
