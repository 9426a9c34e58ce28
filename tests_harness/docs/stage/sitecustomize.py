"""Python imports this at its start where this folder is on its path: from then on backends are stand-ins."""

from contextlib import suppress

with suppress(ImportError):  # another Python, which has no enginegate
    from enginegate.engines import registry

    registry.BUILT_IN.update({name: f"stand_ins:{name.replace('-', '_')}" for name in registry.BUILT_IN})
