"""Quantizes a checkpoint with ModelOpt.

Works on a GPU, and on the CPU for small models. AWQ is Lin et al. 2023 (arXiv:2306.00978); NVFP4 keeps blocks of 16
4-bit floats with one FP8 scale each. Unquantized precisions are linked as they are.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginegate.core.specs import EngineSpec
from enginegate.engines.checkpoint import check_loaded, link_checkpoint, read_passages
from enginegate.engines.trtllm.precisions import TORCH

#: Tokens of a calibration passage that are used; longer ones are cut.
_PASSAGE_TOKENS = 512
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json")


def quantize(spec: EngineSpec, checkpoint: Path, out_dir: Path) -> None:
    """Write the checkpoint in the spec's precision into ``out_dir``.

    Raises EngineError where passages are missing, or weights of the checkpoint.
    """
    recipe = TORCH[spec.precision].recipe
    if not recipe:
        link_checkpoint(checkpoint, out_dir)
        return
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM, AutoTokenizer

    passages = read_passages(spec.quantization)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, report = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype="auto", trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    check_loaded(checkpoint, report)
    model = model.to(device).eval()
    if model.dtype == torch.float32:
        model = model.to(torch.float16)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)

    def calibrate(quantizing: Any) -> None:
        with torch.inference_mode():
            for passage in passages:
                tokens = tokenizer(passage, return_tensors="pt", truncation=True, max_length=_PASSAGE_TOKENS)
                quantizing(input_ids=tokens["input_ids"].to(device))

    model = mtq.quantize(model, _configuration(getattr(mtq, recipe), spec), calibrate)
    export_hf_checkpoint(model, export_dir=str(out_dir))
    for name in (*_TOKENIZER, "generation_config.json"):
        if (checkpoint / name).is_file() and not (out_dir / name).exists():
            shutil.copyfile(checkpoint / name, out_dir / name)


def _configuration(recipe: dict[str, Any], spec: EngineSpec) -> dict[str, Any]:
    """ModelOpt's recipe with the spec's group size in its integer weight quantizers; NVFP4's block is fixed at 16."""
    configuration = copy.deepcopy(recipe)
    group = spec.quantization.group_size
    if group is not None and spec.precision in ("int4_awq", "w4a8_awq"):
        for entry in _entries(configuration["quant_cfg"]):
            sizes = entry.get("block_sizes")
            if sizes and -1 in sizes and entry.get("num_bits") == 4:
                sizes[-1] = group
    return configuration


def _entries(node: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary below ``node``; ModelOpt's configuration is a list of rules, or by name, by version."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _entries(value)
    elif isinstance(node, list):
        for value in node:
            yield from _entries(value)
