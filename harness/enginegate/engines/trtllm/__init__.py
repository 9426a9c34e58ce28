"""TensorRT-LLM on NVIDIA GPUs, by its two backends. Nothing of it is imported before an engine is built or loaded."""
