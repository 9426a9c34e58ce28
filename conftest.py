"""enginegate's plugin: what it does lies in harness/enginegate/plugin. Hooks of your own may follow."""

pytest_plugins = ["enginegate.plugin"]
