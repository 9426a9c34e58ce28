"""vLLM on NVIDIA GPUs. Its libraries are imported by ``load`` alone; weights are quantized by llm-compressor."""

from enginegate.engines.vllm.backend import VllmBackend

__all__ = ["VllmBackend"]
