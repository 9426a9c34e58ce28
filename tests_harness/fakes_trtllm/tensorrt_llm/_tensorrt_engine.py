"""The engine backend's class, gone from the pretended version where it is gone upstream."""

from tensorrt_llm import _llm, _strict

if "engine.LLM" not in _strict.THINGS:
    raise ImportError(f"tensorrt_llm {_strict.VERSION} has no _tensorrt_engine")

LLM = _llm.EngineLLM
