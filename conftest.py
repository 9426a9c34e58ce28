pytest_plugins = ["harness.plugin", "fixtures.suite"]
