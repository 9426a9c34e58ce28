pytest_plugins = ["enginegate.plugin", "enginegate.fixtures.suite", "enginegate.engines.trtllm.pytest_require"]
