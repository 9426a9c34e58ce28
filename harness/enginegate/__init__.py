"""enginegate: benchmark and regression gates for quantized LLM engines, as a pytest suite."""

__version__ = "0.1.0"
