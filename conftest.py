pytest_plugins = ["harness.plugin", "fixtures.suite", "harness.engines.trtllm.pytest_require"]
