"""Writes the checkpoint that vLLM loads: in the asked half precision, or quantized by llm-compressor in a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from enginegate.core.errors import CapabilityError
from enginegate.core.progress import Step
from enginegate.core.specs import EngineSpec
from enginegate.engines.base import Progress
from enginegate.engines.checkpoint import link_checkpoint, link_file, read_config, read_passages
from enginegate.engines.process.building import run_build
from enginegate.engines.vllm.precisions import COMPRESSED, HALVES
from enginegate.engines.vllm.quantize import storage_type
from enginegate.machine import cpu
from enginegate.machine.processes import child_environment
from enginegate.models.quantized import check_plain
from enginegate.models.weights import other_weights, weight_files

#: Names a Python that has llm-compressor, where this one has not.
PYTHON_VARIABLE = "ENGINEGATE_LLMCOMPRESSOR_PYTHON"
#: Seconds that a Python may take to say which version of llm-compressor it has.
_ASKING = 120
#: Linear layers of these are not ``torch.nn.Linear``, which is what llm-compressor quantizes.
_WITHOUT_LINEAR = frozenset({"gpt2"})


def quantizer() -> str:
    """The Python that quantizes. Raises CapabilityError where there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        return named
    if not cpu.missing_modules(("llmcompressor",)):
        return sys.executable
    raise CapabilityError(
        "backend vllm quantizes with llm-compressor, which is not installed here",
        "python -m venv quantizer && quantizer/bin/pip install llmcompressor==0.14.0.1 && "
        f"export {PYTHON_VARIABLE}=$PWD/quantizer/bin/python; or take a checkpoint that is quantized already",
    )


@lru_cache(maxsize=4)
def quantizer_version(python: str) -> str:
    """``llmcompressor VERSION`` of a Python; ``absent`` where it has none."""
    if python == sys.executable:
        return cpu.versions(("llmcompressor",))
    program = "from importlib.metadata import version; print('llmcompressor', version('llmcompressor'))"
    try:
        asked = subprocess.run(
            [python, "-c", program],
            env=child_environment(python),
            capture_output=True,
            text=True,
            check=False,
            timeout=_ASKING,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "llmcompressor absent"
    return asked.stdout.strip() or "llmcompressor absent"


def build_versions() -> str:
    """Everything that has a hand in the files that are built."""
    named = os.environ.get(PYTHON_VARIABLE) or sys.executable
    return f"{cpu.versions(('safetensors',))}, {quantizer_version(named)}"


def write_engine(spec: EngineSpec, checkpoint: Path, out_dir: Path, progress: Progress) -> None:
    """Write ``checkpoint`` in the spec's precision into ``out_dir``. Raises CapabilityError or EngineError."""
    config = read_config(checkpoint)
    if "quantization_config" in config:
        link_checkpoint(checkpoint, out_dir)  # quantized beforehand; ``effective`` says whether it is what was asked
        return
    check_plain(checkpoint)
    if spec.precision in COMPRESSED:
        if config.get("model_type") in _WITHOUT_LINEAR:
            raise CapabilityError(
                f"{spec.id}: llm-compressor quantizes torch.nn.Linear, and the layers of a "
                f"{config['model_type']} model are Conv1D",
                f"take {', '.join(HALVES)} or fp8",
            )
        progress(Step(f"quantizing {spec.id}"))
        _quantize(spec, checkpoint, out_dir)
        return
    progress(Step(f"converting {spec.id}"))
    element_type = HALVES.get(spec.precision) or storage_type(checkpoint)  # fp8 is made of it while loading
    _convert(checkpoint, out_dir, element_type)


def _convert(checkpoint: Path, out_dir: Path, element_type: str) -> None:
    """Write the weights in one half precision; files that have it already are linked."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    wanted = getattr(torch, element_type)
    for file in weight_files(checkpoint):
        with safe_open(file, framework="pt") as stored:  # type: ignore[no-untyped-call]
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
        if all(tensor.dtype == wanted or not tensor.is_floating_point() for tensor in tensors.values()):
            link_file(file, out_dir)
            continue
        halves = {name: each.to(wanted) if each.is_floating_point() else each for name, each in tensors.items()}
        save_file(halves, out_dir / file.name, metadata={"format": "pt"})
    for name in ("generation_config.json", "model.safetensors.index.json"):
        if (checkpoint / name).is_file() and checkpoint / name not in other_weights(checkpoint):
            link_file(checkpoint / name, out_dir)
    config = {key: value for key, value in read_config(checkpoint).items() if key != "dtype"}
    config["torch_dtype"] = element_type
    (out_dir / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _quantize(spec: EngineSpec, checkpoint: Path, out_dir: Path) -> None:
    job = {
        "precision": spec.precision,
        "group_size": spec.quantization.group_size,
        "passages": read_passages(spec.quantization),
        "checkpoint": str(checkpoint),
        "out_dir": str(out_dir),
    }
    run_build(
        "enginegate.engines.vllm.quantize",
        json.dumps(job).encode(),
        subject=f"{spec.id}: quantizing",
        hint="a group size that does not divide a layer, a full disk or too little memory are usual",
        python=quantizer(),
    )
