"""Configuration files with the option names of earlier TensorRT-LLM projects."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.core.specs import PRECISIONS
from enginegate.engines.trtllm.config_aliases import canonical
from enginegate.engines.trtllm.options import BuiltSpec, pool_limits
from enginegate.engines.trtllm.precisions import ENGINE, TORCH

WHERE = Path("model.yaml")


def read(text: str) -> dict:
    return canonical(yaml.safe_load(text), WHERE)


#: The engine section of a pipeline's file.
ENGINE_SECTION = """
engine:
  max_batch_size: 8
  max_input_len: 1024
  max_output_len: 512
  use_paged_kv_cache: true
  tokens_per_block: 64
  kv_cache_free_gpu_mem_fraction: 0.9
  use_inflight_batching: true
  max_tokens_in_paged_kv_cache: 16384
"""
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in CONFIGS])
def test_every_file_loads_and_those_in_own_names_pass_unchanged(file):
    config = load_config(file)
    assert config.file.default_engine in config.file.engines
    if "trtllm" not in config.file.default_engine:
        raw = yaml.safe_load(file.read_text())
        assert canonical(raw, file) == raw


@pytest.mark.parametrize(("name", "precision"), [("fp16", "fp16"), ("int8", "int8_wo"), ("int4", "int4_awq")])
def test_tinyllama_in_the_names_of_a_pipeline(name, precision):
    config = load_config(CONFIGS[0].parent / f"tinyllama_{name}.yaml")
    spec = config.spec("trtllm-engine", precision)
    assert config.file.engines["trtllm-engine"].precisions == [precision]
    assert (spec.max_batch_size, spec.max_input_len, spec.max_output_len) == (8, 768, 256)
    assert config.runtime("trtllm-engine").scheduler_policy == "inflight"


def test_pipeline_dialect():
    found = read(
        """
quantization:
  mode: int4_weight_only
  precision: int4
  use_weight_only: true
  weight_only_precision: int4
  use_awq: true
  awq_block_size: 128
  group_size: 128
  activation_precision: fp16
  kv_cache_precision: int8
  calibration_samples: 512
optimization: {use_int8_kv_cache: true}
"""
        + ENGINE_SECTION
    )
    assert found == {
        "default_engine": "trtllm-engine",
        "limits": {"max_batch_size": 8, "max_input_len": 1024, "max_output_len": 512},
        "engines": {
            "trtllm-engine": {
                "precisions": ["int4_awq"],
                "quantization": {"group_size": 128, "calibration_samples": 512},
                "runtime": {
                    "kv_precision": "int8",
                    "activation_precision": "fp16",
                    "tokens_per_block": 64,
                    "kv_cache_fraction": 0.9,
                    "scheduler_policy": "inflight",
                    "kv_cache_tokens": 16384,
                },
            }
        },
    }


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        ("{mode: fp16, precision: float16, kv_cache_precision: fp16, use_weight_only: false}", "fp16"),
        ("{mode: int8_weight_only, precision: int8, calibration_dataset: pileval}", "int8_wo"),
        ("{mode: int4_weight_only}", "int4_wo"),
        ("{mode: int4_weight_only, use_gptq: true, gptq_group_size: 128, gptq_desc_act: false}", "int4_gptq"),
        ("{quant_algo: W4A16_AWQ, use_awq: true}", "int4_awq"),
        ("{mode: full_prec}", "full_prec"),
        ("{mode: int8_wo}", "int8_wo"),
    ],
)
def test_modes(quantization, precision):
    found = read(f"{{default_engine: trtllm-torch, quantization: {quantization}}}")
    assert found["engines"]["trtllm-torch"]["precisions"] == [precision]


@pytest.mark.parametrize(
    ("method", "precision"),
    [("int4_awq", "int4_awq"), ("fp8", "fp8"), ("smoothquant", "w8a8_sq"), ("int8", "int8_wo")],
)
def test_guide_dialect(method, precision):
    found = read(
        "{llm: {TensorRTLLM: {to_quantize: true, dtype: float16, quant_method: "
        f"{method}, smoothquant: 0.5, calib_size: 32}}}}}}"
    )
    section = found["engines"]["trtllm-engine"]
    assert section["precisions"] == [precision]
    assert section["quantization"] == {"calibration_samples": 32}
    assert section["runtime"] == {"activation_precision": "fp16"}


def test_foreign_options_inside_one_backends_section():
    found = read(
        "{engines: {trtllm-engine: {precisions: [int4_awq, int8_wo], quantization: {use_awq: true, awq_block_size: 64},"
        " engine: {max_batch_size: 4}}, openvino: {precisions: [fp32], quantization: {group_size: 64}}}}"
    )
    assert found["engines"]["trtllm-engine"] == {
        "precisions": ["int4_awq", "int8_wo"],
        "quantization": {"group_size": 64},
    }
    assert found["engines"]["openvino"]["quantization"] == {"group_size": 64}
    assert found["limits"] == {"max_batch_size": 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # The very example of one project's introduction: AWQ has one group size, and this names two.
        (
            "{quantization: {use_awq: true, awq_block_size: 128, group_size: 64}}",
            r"group_size says 64, .*awq_block_size",
        ),
        ("{quantization: {mode: fp16, use_awq: true}}", "use_awq means int4_awq, which contradicts quantization.mode"),
        ("{quantization: {mode: int4_weight_only, use_awq: true, use_gptq: true}}", "contradicts"),
        ("{quantization: {mode: int8_weight_only, precision: int4}}", "contradicts"),
        ("{quantization: {mode: int2}}", "'int2' is not known"),
        ("{quantization: {moed: fp16}}", r"unknown option quantization\.moed"),
        ("{quantization: {use_awq: true, awq_alpha: 0.5}}", "searched by the quantizer"),
        ("{quantization: {use_awq: true, calibration_dataset: pileval}}", "names a data set of a hub"),
        ("{quantization: {use_awq: sometimes}}", "neither true nor false"),
        ("{engine: {use_paged_kv_cache: false}}", "every engine pages its KV cache"),
        ("{engine: {stream_batch_size: 4}}", "streams every request of a timed batch"),
        ("{engine: {streem_batch_size: 4}}", r"unknown option engine\.streem_batch_size"),
        ("{engine: {max_batch_size: 4}, limits: {max_batch_size: 8}}", "says 4, but limits.max_batch_size says 8"),
        ("{optimization: {kv_cache_precision: fp8, use_int8_kv_cache: true}}", "says 'int8', but"),
        ("{optimization: {kv_cache_precision: int8, use_int8_kv_cache: false}}", "contradicts"),
        ("{llm: {TensorRTLLM: {smoothquant: 0.8}}}", "0.5 is used"),
        ("{llm: {TensorRTLLM: {quant_method: gptq}}}", "'gptq' is not known"),
        ("{llm: {TensorRTLLM: {to_quantize: false, quant_method: fp8}}}", "contradicts"),
        ("{llm: {vLLM: {}}}", "TensorRTLLM alone"),
        (
            "{quantization: {mode: int8_weight_only}, engines: {trtllm-engine: {precisions: [fp16]}}}",
            "precisions lists",
        ),
        ("{quantization: [1]}", "is no mapping"),
    ],
)
def test_unknown_and_contradictory_options_are_errors(text, said):
    with pytest.raises(ConfigError, match=said):
        read(text)


SEEDS = (
    """
schema: 1
model: {name: phi-2, source: "random:phi-2?seed=0"}
quantization: {mode: int4_weight_only, use_awq: true, awq_block_size: 128, group_size: 128, calibration_samples: 512}
optimization: {use_int8_kv_cache: true, kv_cache_precision: int8}
"""
    + ENGINE_SECTION
)


def test_whole_file_in_the_names_of_a_pipeline_reaches_build_and_load(tmp_path):
    """From the file to what the backend gets: what an engine compiles in is in its spec, and so in its key."""
    file = tmp_path / "phi.yaml"
    file.write_text(SEEDS)
    config = load_config(file)
    runtime, spec = config.runtime("trtllm-engine"), config.spec("trtllm-engine", "int4_awq")
    assert isinstance(spec, BuiltSpec)
    assert (spec.kv_precision, spec.tokens_per_block, spec.quantization.group_size) == ("int8", 64, 128)
    assert pool_limits(runtime) == (16384, 0.9)
    assert (runtime.kv_precision, runtime.scheduler_policy) == ("int8", "inflight")


def test_limits_of_the_kv_pool_that_are_tensorrts_alone_are_refused_elsewhere(tmp_path):
    file = tmp_path / "phi.yaml"
    engines = "engines: {openvino: {precisions: [int8_wo], runtime: {kv_cache_tokens: 512}}}"
    file.write_text(f"schema: 1\nmodel: {{name: phi-2, source: x}}\ndefault_engine: openvino\n{engines}\n")
    with pytest.raises(ConfigError, match=r"openvino\.runtime\.kv_cache_tokens: unknown key; backend openvino has"):
        load_config(file)


def test_lookahead_and_w4a8_can_be_asked_for(tmp_path):
    file = tmp_path / "phi.yaml"
    file.write_text(
        "schema: 1\nmodel: {name: phi-2, source: x}\ndefault_engine: trtllm-engine\nengines:\n"
        "  trtllm-engine: {precisions: [fp16], runtime: {speculation: lookahead}}\n"
        "  trtllm-torch: {precisions: [w4a8_awq], runtime: {kv_cache_fraction: 0.5}}\n"
    )
    config = load_config(file)
    assert config.spec("trtllm-engine", "fp16").speculation == "lookahead"
    assert pool_limits(config.runtime("trtllm-torch")) == (0, 0.5)


def test_every_precision_of_both_backends_has_a_name_in_the_suite():
    assert {*ENGINE, *TORCH} <= set(PRECISIONS)
