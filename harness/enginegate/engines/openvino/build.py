"""Exports a checkpoint to an OpenVINO model, as a child process: ``python -m enginegate.engines.openvino.build < job``.

Half-precision models are exported from a torch model of that very type, so that the IR stores bf16 or f16 constants
(half the bytes of fp32), which OpenVINO widens or keeps as the activation precision asks. Quantized ones go through
NNCF: int8 per channel and asymmetric; int4 symmetric in groups, with embedding and output layer kept at int8. AWQ is
Lin et al. 2023 (arXiv:2306.00978), GPTQ is Frantar et al. 2022 (arXiv:2210.17323).
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from enginegate.core.specs import EngineSpec, QuantizationSpec
from enginegate.engines.checkpoint import check_loaded, read_passages
from enginegate.engines.openvino.precisions import QUANTIZED
from enginegate.machine.processes import die_with_parent
from enginegate.models.whole import check_tensors

#: What an engine needs of an export; tokenization is the suite's own.
_KEPT = ("openvino_model.xml", "openvino_model.bin", "config.json", "generation_config.json")


def quantization_arguments(spec: EngineSpec, checkpoint: Path) -> dict[str, Any]:
    """Arguments of optimum-intel's ``OVWeightQuantizationConfig`` for a quantized precision."""
    if spec.precision == "int8_wo":
        return {"bits": 8, "sym": False}
    group_size = -1 if spec.quantization.group_size is None else spec.quantization.group_size
    arguments: dict[str, Any] = {"bits": 4, "sym": True, "group_size": group_size, "ratio": 1.0}
    if spec.precision in ("int4_awq", "int4_gptq"):
        passages = read_passages(spec.quantization)
        arguments |= {"dataset": passages, "num_samples": len(passages), "tokenizer": str(checkpoint)}
        arguments |= {"quant_method": "awq"} if spec.precision == "int4_awq" else {"gptq": True}
    return arguments


def export(spec: EngineSpec, checkpoint: Path, out_dir: Path) -> None:
    """Write the OpenVINO model of ``checkpoint`` in the spec's precision, and nothing else, into ``out_dir``.

    Raises ModelError or EngineError where its weights are not those of the model in its config: the exporter hides
    Transformers' report of what it filled with random numbers.
    """
    check_tensors(checkpoint)
    if spec.precision in QUANTIZED:
        arguments = quantization_arguments(spec, checkpoint)
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

        OVModelForCausalLM.from_pretrained(
            checkpoint,
            export=True,
            compile=False,
            trust_remote_code=False,
            quantization_config=OVWeightQuantizationConfig(**arguments),
        ).save_pretrained(out_dir)
    else:
        import torch
        from optimum.exporters.openvino import export_from_model
        from transformers import AutoModelForCausalLM

        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[spec.precision]
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        check_loaded(checkpoint, report)
        export_from_model(
            model, out_dir, task="text-generation-with-past", patch_16bit_model=dtype is not torch.float32
        )
    for file in out_dir.iterdir():
        if file.is_file() and file.name not in _KEPT:
            file.unlink()


def main() -> int:
    """Read a job (spec, checkpoint, out_dir) from standard input and do it."""
    die_with_parent()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    job = json.loads(sys.stdin.read())
    quantization = QuantizationSpec(**job["spec"].pop("quantization"))
    export(EngineSpec(quantization=quantization, **job["spec"]), Path(job["checkpoint"]), Path(job["out_dir"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
