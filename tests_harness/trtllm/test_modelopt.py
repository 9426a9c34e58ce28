"""ModelOpt itself, on the CPU: a small model is quantized for real and the exported checkpoint is read back.

Needs nvidia-modelopt, which fits beside this project's own libraries: pip install nvidia-modelopt. NVFP4 is quantized
by plain torch operations on a CPU; the kernels that would run it are a GPU's.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from enginegate.core.errors import EngineError
from enginegate.core.specs import EngineSpec, QuantizationSpec
from enginegate.engines.registry import load_backend
from enginegate.engines.trtllm.checkpoint import quantization, tensor_bytes
from enginegate.models.checkpoint import Checkpoint
from enginegate.testing import save_tiny_llama

modelopt = pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed: pip install nvidia-modelopt")
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.child, pytest.mark.version(None)]


@pytest.fixture(scope="module")
def wide(checkpoint, tmp_path_factory) -> Checkpoint:
    """Hidden 128, since a group of 128 weights must divide it; the tokenizer of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    wider = {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.02}
    save_tiny_llama(folder, "float16", **wider, pad_token_id=2)
    for file in checkpoint.path.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return Checkpoint(folder, "0" * 64, f"path:{folder}", random_weights=True)


def build(wide, calibration, out_dir, precision, **options):
    spec = EngineSpec(
        model="wide",
        backend="trtllm-torch",
        precision=precision,
        quantization=QuantizationSpec(calibration=str(calibration), calibration_samples=4, **options),
        max_input_len=48,
        max_output_len=32,
    )
    out_dir.mkdir()
    load_backend("trtllm-torch").build(spec, wide, out_dir, lambda _: None)
    return spec


@pytest.mark.parametrize(
    ("precision", "algorithm", "stored", "group", "ending"),
    [
        ("fp8", "FP8", "F8_E4M3", None, "input_scale"),
        ("int4_awq", "W4A16_AWQ", "U8", 64, "pre_quant_scale"),
        ("w4a8_awq", "W4A8_AWQ", "U8", 64, "pre_quant_scale"),
        ("nvfp4", "NVFP4", "U8", 16, "weight_scale_2"),
    ],
)
def test_exported_checkpoint_is_what_was_asked(
    wide, calibration, tmp_path, precision, algorithm, stored, group, ending
):
    from safetensors.torch import load_file

    folder = tmp_path / "out"
    build(wide, calibration, folder, precision, group_size=64)
    said = quantization(folder)
    assert said["quant_algo"] == algorithm
    assert said.get("group_size") == group
    assert "lm_head" in said["exclude_modules"]
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["quant_algo"]) == ("modelopt", algorithm)
    tensors = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    weight = tensors["model.layers.0.mlp.up_proj.weight"]
    elements = 256 * 128
    assert weight.numel() == (elements if stored == "F8_E4M3" else elements // 2)  # two 4-bit values a byte
    assert (
        tensor_bytes(folder)[stored] >= 2 * (3 * elements + 2 * 128 * 128 + 2 * 64 * 128) * weight.numel() // elements
    )
    assert any(name.endswith(ending) for name in tensors)
    if group:
        scale = tensors["model.layers.0.mlp.up_proj.weight_scale"]
        assert scale.numel() == elements // group
    assert tensors["lm_head.weight"].dtype == torch.float16
    assert {"tokenizer.json", "tokenizer_config.json"} <= {file.name for file in folder.iterdir()}


def test_weights_come_back_within_their_rounding(wide, calibration, tmp_path):
    from safetensors.torch import load_file

    folder = tmp_path / "out"
    build(wide, calibration, folder, "fp8")
    tensors = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    before = load_file(wide.path / "model.safetensors")["model.layers.1.mlp.down_proj.weight"].float()
    name = "model.layers.1.mlp.down_proj"
    after = tensors[f"{name}.weight"].float() * tensors[f"{name}.weight_scale"].float()
    # FP8 E4M3 has 3 mantissa bits: at most 1/16 of a value, and half the smallest step near zero.
    assert (after - before).abs().max() <= before.abs().max() / 16
    assert torch.corrcoef(torch.stack([after.flatten(), before.flatten()]))[0, 1] > 0.999


def test_quantized_checkpoint_loads_through_the_adapter(wide, calibration, tmp_path):
    """As far as it goes here: files, arguments and effective state. Decoding packed weights is TensorRT-LLM's."""
    folder = tmp_path / "out"
    build(wide, calibration, folder, "fp8")
    assert sum(tensor_bytes(folder).values()) < 0.7 * sum(tensor_bytes(wide.path).values())


def test_missing_passages_end_the_build_with_their_reason(wide, tmp_path):
    spec = replace(
        EngineSpec("wide", "trtllm-torch", "fp8"), quantization=QuantizationSpec(calibration="/nowhere.jsonl")
    )
    with pytest.raises(EngineError, match=r"/nowhere\.jsonl"):
        load_backend("trtllm-torch").build(spec, wide, tmp_path, lambda _: None)
