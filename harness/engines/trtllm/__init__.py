"""TensorRT-LLM on NVIDIA GPUs, by its two backends. Nothing of it is imported before an engine is built or loaded."""

from harness.engines.trtllm.engine_backend import TensorRtEngineBackend
from harness.engines.trtllm.torch_backend import TensorRtTorchBackend

__all__ = ["TensorRtEngineBackend", "TensorRtTorchBackend"]
