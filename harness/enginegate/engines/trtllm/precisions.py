"""The suite's precisions in TensorRT-LLM's and ModelOpt's terms, and what each needs of a GPU.

Compute capabilities: FP8 tensor cores came with Ada (8.9), FP4 with Blackwell (10.0); upstream skips its SmoothQuant
and 4-bit weight-only engine tests on Blackwell. bf16, and TensorRT-LLM's kernels at large, need Ampere (8.0).
"""

from __future__ import annotations

from dataclasses import dataclass

from enginegate.engines.base import Capabilities, Capability
from enginegate.engines.trtllm.contract import installed_version, version_problem
from enginegate.engines.trtllm.gpu import Gpu, driver_problem

AMPERE, ADA, BLACKWELL = (8, 0), (8, 9), (10, 0)


@dataclass(frozen=True)
class Precision:
    """One weight precision on one backend.

    Attributes:
        algorithm: member of QuantAlgo (engine), or the algorithm that ModelOpt writes (torch); empty for none.
        recipe: ModelOpt's quantization configuration for the torch backend; empty for none.
        dtype: TensorRT-LLM's ``dtype``; ``auto`` follows the checkpoint.
        calibrated: whether building reads the calibration passages.
        least: lowest compute capability.
        below: first compute capability that it does not work on, or None.
    """

    algorithm: str = ""
    recipe: str = ""
    dtype: str = "auto"
    calibrated: bool = False
    least: tuple[int, int] = AMPERE
    below: tuple[int, int] | None = None


ENGINE = {
    "fp16": Precision(dtype="float16"),
    "bf16": Precision(dtype="bfloat16"),
    "int8_wo": Precision("W8A16"),
    "int4_wo": Precision("W4A16", below=BLACKWELL),
    "int4_awq": Precision("W4A16_AWQ", calibrated=True, below=BLACKWELL),
    "int4_gptq": Precision("W4A16_GPTQ", below=BLACKWELL),
    "w8a8_sq": Precision("W8A8_SQ_PER_CHANNEL", calibrated=True, below=BLACKWELL),
    "fp8": Precision("FP8", calibrated=True, least=ADA),
}
TORCH = {
    "fp16": Precision(dtype="float16"),
    "bf16": Precision(dtype="bfloat16"),
    "fp8": Precision("FP8", "FP8_DEFAULT_CFG", calibrated=True, least=ADA),
    "nvfp4": Precision("NVFP4", "NVFP4_DEFAULT_CFG", calibrated=True, least=BLACKWELL),
    "int4_awq": Precision("W4A16_AWQ", "INT4_AWQ_CFG", calibrated=True),
    "w4a8_awq": Precision("W4A8_AWQ", "W4A8_AWQ_BETA_CFG", calibrated=True, least=ADA),
}

#: KV-cache types besides that of the activations, and the lowest compute capability for each.
KV_ENGINE = {"int8": AMPERE, "fp8": ADA}
KV_TORCH = {"fp8": ADA}

_ABSENT = {
    "w8a8_sq": "SmoothQuant exists in the engine backend alone: use trtllm-engine with tensorrt-llm<1.3",
    "int8_wo": "int8 weight-only exists in the engine backend alone: use trtllm-engine with tensorrt-llm<1.3",
    "int4_wo": "plain int4 weight-only exists in the engine backend alone: use int4_awq, or trtllm-engine",
    "int4_gptq": "GPTQ checkpoints are read by the engine backend alone: use int4_awq, or trtllm-engine",
    "nvfp4": "NVFP4 checkpoints are for the PyTorch backend: use trtllm-torch",
    "fp32": "TensorRT-LLM is measured in half precisions and below: use fp16 or bf16",
}


def algorithm_name(precisions: dict[str, Precision], algorithm: str | None, dtype: str) -> str:
    """The suite's name of what a built engine says of itself: its quantization algorithm, else its dtype."""
    if algorithm:
        return next((name for name, known in precisions.items() if known.algorithm == algorithm), algorithm)
    return {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}.get(dtype, dtype)


def capabilities(
    backend: str, precisions: dict[str, Precision], kv_precisions: dict[str, tuple[int, int]], gpus: list[Gpu]
) -> Capabilities:
    """What a backend can do with the installed version on these GPUs; every refusal carries its reason and hint."""
    problems = [text for text in (version_problem(backend, installed_version()), driver_problem(gpus)) if text]
    blocked = "; ".join(problems)
    found = {name: _on(gpus, known.least, known.below, blocked) for name, known in precisions.items()}
    found |= {name: Capability(False, reason) for name, reason in _ABSENT.items() if name not in precisions}
    kv = {name: _on(gpus, AMPERE, None, blocked) for name in ("fp16", "bf16")}
    kv |= {name: _on(gpus, least, None, blocked) for name, least in kv_precisions.items()}
    return Capabilities(found, kv, "cuda")


def _on(gpus: list[Gpu], least: tuple[int, int], below: tuple[int, int] | None, blocked: str) -> Capability:
    if blocked:
        return Capability(False, blocked)
    for gpu in gpus:
        shown = "{}.{}".format(*gpu.capability)
        if gpu.capability < least:
            return Capability(
                False,
                "needs compute capability {}.{} or later, {} has {}: use a newer GPU or another precision".format(
                    *least, gpu.name, shown
                ),
            )
        if below is not None and gpu.capability >= below:
            return Capability(
                False, f"is not supported upstream on Blackwell and later ({gpu.name} has {shown}): use fp8 or int8_wo"
            )
    return Capability(True)
