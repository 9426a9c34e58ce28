"""Quantizes a checkpoint with llm-compressor, as a child process: ``python -m enginegate.engines.vllm.quantize < job``.

Runs in an environment of its own where need be, as llm-compressor and vLLM may ask for different versions of
compressed-tensors; of this suite it imports only what needs no third-party package. Weights of all linear layers but
the output layer are symmetric integers: 8 bits with a scale per output channel, 4 bits in groups. AWQ is Lin et al.
2023 (arXiv:2306.00978), GPTQ is Frantar et al. 2022 (arXiv:2210.17323), SmoothQuant is Xiao et al. 2022
(arXiv:2211.10438; 8-bit activations with a scale per token, found while running).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from enginegate.engines.vllm.precisions import COMPRESSED
from enginegate.machine.processes import die_with_parent
from enginegate.models.loading import loading_problem

#: Tokens of a calibration passage that are used.
_PASSAGE_TOKENS = 512
#: The paper's migration strength for most models, and vLLM's documented one, is between 0.5 and 0.8.
_SMOOTHING_STRENGTH = 0.8
#: What an engine needs of the result; tokenization is the suite's own.
_KEPT = ("config.json", "generation_config.json", "recipe.yaml", "model.safetensors.index.json")


def weight_arguments(precision: str, group_size: int | None) -> dict[str, Any]:
    """Arguments of compressed-tensors' ``QuantizationArgs`` for the weights of a quantized precision."""
    bits = COMPRESSED[precision][0]
    if bits == 8 or group_size is None:
        return {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "channel"}
    return {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": group_size}


def quantize(precision: str, group_size: int | None, passages: list[str], checkpoint: Path, out_dir: Path) -> None:
    """Write ``checkpoint`` in a precision of ``COMPRESSED`` into ``out_dir``.

    Args:
        precision: a key of COMPRESSED.
        group_size: weights that share a scale in 4-bit precisions; None for one scale per output channel.
        passages: calibration texts; used by AWQ, GPTQ and SmoothQuant.
        checkpoint: a Hugging Face checkpoint with its tokenizer.
        out_dir: an existing folder.
    """
    import torch
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    if not torch.cuda.is_available():
        _keep_pageable()
    model, report = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=storage_type(checkpoint),
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    problem = loading_problem(checkpoint, report)
    if problem:
        raise SystemExit(problem)
    modifiers = _modifiers(precision, group_size)
    calibrated = len(modifiers) > 1 or precision == "int4_gptq"
    data = {"dataset": _dataset(passages, checkpoint), "shuffle_calibration_samples": False} if calibrated else {}
    if calibrated:
        data |= {"num_calibration_samples": len(passages), "max_seq_length": _PASSAGE_TOKENS, "pipeline": "sequential"}
    oneshot(model=model, recipe=modifiers, trust_remote_code_model=False, **data)
    model.save_pretrained(out_dir, save_compressed=True)
    for file in out_dir.iterdir():
        if file.is_file() and file.name not in _KEPT and file.suffix != ".safetensors":
            file.unlink()
    if not (out_dir / "recipe.yaml").exists():
        raise SystemExit("llm-compressor wrote no recipe.yaml, which tells how the weights were quantized")


def storage_type(checkpoint: Path) -> str:
    """The half precision in which what is not quantized is kept: float16 only where the checkpoint is in it.

    Others may have activations beyond float16's range; with float16, AWQ's search on SmolLM2 met infinities.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    made_in = config.get("torch_dtype") or config.get("dtype")
    return "float16" if made_in == "float16" else "bfloat16"


def _keep_pageable() -> None:
    """Leave calibration data in ordinary memory: torch pins none without a GPU, and AWQ asks for it (0.14.0)."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_: None


def _modifiers(precision: str, group_size: int | None) -> list[Any]:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    scheme: dict[str, Any] = {"weights": QuantizationArgs(**weight_arguments(precision, group_size))}
    if precision == "w8a8_sq":
        scheme["input_activations"] = QuantizationArgs(
            num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True, observer=None
        )
    groups = {"group_0": QuantizationScheme(targets=["Linear"], **scheme)}
    arguments: dict[str, Any] = {"config_groups": groups, "ignore": ["lm_head"]}
    if precision == "int4_gptq":
        return [GPTQModifier(**arguments)]
    if precision == "int4_awq":
        from llmcompressor.modifiers.transform.awq import AWQModifier

        return [AWQModifier(), QuantizationModifier(**arguments)]
    if precision == "w8a8_sq":
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        return [SmoothQuantModifier(smoothing_strength=_SMOOTHING_STRENGTH), QuantizationModifier(**arguments)]
    return [QuantizationModifier(**arguments)]


def _dataset(passages: list[str], checkpoint: Path) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    return Dataset.from_list(
        [dict(tokenizer(text, truncation=True, max_length=_PASSAGE_TOKENS)) for text in passages]
    ).select_columns(["input_ids", "attention_mask"])


def main() -> int:
    """Read a job (precision, group_size, passages, checkpoint, out_dir) from standard input and do it."""
    die_with_parent()
    logging.disable(logging.WARNING)
    job = json.loads(sys.stdin.read())
    quantize(job["precision"], job["group_size"], job["passages"], Path(job["checkpoint"]), Path(job["out_dir"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
