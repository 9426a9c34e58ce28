"""A stand-in for TensorRT-LLM, built from the contract table: it refuses whatever the table does not hold.

It really decodes, with Transformers on the CPU behind the interface. It proves the adapters against our reading of the
interface, not against TensorRT-LLM.
"""

from tensorrt_llm import _llm, _strict
from tensorrt_llm.llmapi import SamplingParams

LLM = _llm.TorchLLM
__version__ = _strict.VERSION
__all__ = ["LLM", "SamplingParams"]
