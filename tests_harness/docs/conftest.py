"""The tiny model and its engines, as a package outside this repository would take them."""

from enginegate.testing.fixtures import *  # noqa: F403
