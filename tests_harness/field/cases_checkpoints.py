"""Checkpoints that are not whole, not plain, or not of their config: formerly loaded and measured as if they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from enginegate.engines.checkpoint import link_checkpoint
from enginegate.models.gguf import convert_gguf
from enginegate.models.sources import resolve
from field_case import Got, attempt, case
from field_checkpoints import random_weights, write_gguf, write_small_checkpoint
from safetensors.numpy import save_file

QUERY = "model.layers.0.self_attn.q_proj.weight"
_WHOLE = "measured as if whole"


def resolved(
    folder: Path, tensors: dict[str, Any] | None = None, files: dict[str, Any] | None = None, **config: Any
) -> Got:
    """What becomes of a small Llama with some tensors changed (None: left out), other files, other settings."""
    checkpoint = write_small_checkpoint(folder / "checkpoint")
    weights = {**random_weights(), **(tensors or {})}
    kept = {name: value for name, value in weights.items() if value is not None}
    save_file(kept, checkpoint / "model.safetensors", metadata={"format": "pt"})
    settings = {**json.loads((checkpoint / "config.json").read_text()), **config}
    for name, content in {"config.json": settings, **(files or {})}.items():
        (checkpoint / name).write_text(json.dumps(content))
    return attempt(resolve, f"path:{checkpoint}", cache=folder / "cache", progress=print)


def sharded(folder: Path, move: dict[str, str | None]) -> Got:
    """The same in two files, with an index that is changed."""
    checkpoint = write_small_checkpoint(folder / "checkpoint")
    (checkpoint / "model.safetensors").unlink()
    weights = random_weights()
    where = {name: "a.safetensors" if "layers.0" in name else "b.safetensors" for name in weights}
    for file in ("a.safetensors", "b.safetensors"):
        save_file({name: weights[name] for name in weights if where[name] == file}, checkpoint / file)
    placed = {name: file for name, file in {**where, **move}.items() if file is not None}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return attempt(resolve, f"path:{checkpoint}", cache=folder / "cache", progress=print)


@case("checkpoint: whole", kind=_WHOLE, expected="accepted")
def whole(folder: Path) -> Got:
    return resolved(folder)


@case("checkpoint: one tensor missing", kind=_WHOLE, expected="ModelError", says=("1 missing", QUERY))
def tensor_missing(folder: Path) -> Got:
    return resolved(folder, {QUERY: None})


@case("checkpoint: a layer more than the config has", kind=_WHOLE, expected="ModelError", says=("9 unexpected",))
def layer_too_many(folder: Path) -> Got:
    return resolved(folder, num_hidden_layers=1)


@case("checkpoint: a tensor of another shape", kind=_WHOLE, expected="ModelError", says=("1 of another shape", QUERY))
def tensor_shape(folder: Path) -> Got:
    return resolved(folder, {QUERY: np.zeros((32, 64), np.float32)})


@case("checkpoint: config.json without tied embeddings", kind=_WHOLE, expected="ModelError", says=("lm_head.weight",))
def head_missing(folder: Path) -> Got:
    return resolved(folder, tie_word_embeddings=False)


@case("checkpoint: tied weights stored with two values", kind=_WHOLE, expected="ModelError", says=("lm_head.weight",))
def ties_differ(folder: Path) -> Got:
    return resolved(folder, {"lm_head.weight": random_weights()["model.embed_tokens.weight"] + 1})


@case("checkpoint: tied weights stored twice", kind=_WHOLE, expected="accepted")
def ties_stored_twice(folder: Path) -> Got:
    return resolved(folder, {"lm_head.weight": random_weights()["model.embed_tokens.weight"]})


@case("checkpoint: names without the prefix 'model.'", kind=_WHOLE, expected="accepted")
def no_prefix(folder: Path) -> Got:
    weights = random_weights()
    moved: dict[str, Any] = {name.removeprefix("model."): value for name, value in weights.items()}
    return resolved(folder, {**dict.fromkeys(weights), **moved})


@case("checkpoint: model_type that Transformers does not know", kind=_WHOLE, expected="ModelError", says=("own-kind",))
def unknown_architecture(folder: Path) -> Got:
    return resolved(folder, model_type="own-kind")


@case("checkpoint: 10**9 layers in config.json", kind=_WHOLE, expected="ModelError", says=("num_hidden_layers",))
def too_many_layers(folder: Path) -> Got:
    return resolved(folder, num_hidden_layers=10**9)


@case("index: a tensor that its shard lacks", kind=_WHOLE, expected="ModelError", says=("a.safetensors lacks", "1 ("))
def index_names_too_much(folder: Path) -> Got:
    return sharded(folder, {"model.extra.weight": "a.safetensors"})


@case("index: lacks a tensor of its shard", kind=_WHOLE, expected="ModelError", says=("does not place in it", QUERY))
def index_names_too_little(folder: Path) -> Got:
    return sharded(folder, {QUERY: None})


@case("index: a shard that is missing", kind=_WHOLE, expected="ModelError", says=("c.safetensors is missing",))
def index_names_no_file(folder: Path) -> Got:
    return sharded(folder, {QUERY: "c.safetensors"})


@case("index: two shards, all in place", kind=_WHOLE, expected="accepted")
def index_is_right(folder: Path) -> Got:
    return sharded(folder, {})


@case("checkpoint: GPTQ, with quantize_config.json alone", kind=_WHOLE, expected="ModelError", says=("GPTQ", "plain"))
def gptq_beside(folder: Path) -> Got:
    packed = {QUERY: None, QUERY.replace("weight", "qweight"): np.zeros((8, 64), np.int32)}
    return resolved(folder, packed, {"quantize_config.json": {"bits": 4, "group_size": 64}})


@case("checkpoint: GPTQ tensors, no word of it", kind=_WHOLE, expected="ModelError", says=("q_proj.qweight", "plain"))
def gptq_tensors(folder: Path) -> Got:
    return resolved(folder, {QUERY: None, QUERY.replace("weight", "qweight"): np.zeros((8, 64), np.int32)})


@case("checkpoint: 8-bit weights with weight_scale", kind=_WHOLE, expected="ModelError", says=("weight_scale",))
def scaled_weights(folder: Path) -> Got:
    return resolved(folder, {QUERY: np.zeros((64, 64), np.int8), f"{QUERY}_scale": np.ones((64, 1), np.float32)})


@case("checkpoint: quantization_config in config.json", kind=_WHOLE, expected="ModelError", says=("bitsandbytes",))
def quantization_config(folder: Path) -> Got:
    return resolved(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


@case("checkpoint: hf_quant_config.json of ModelOpt", kind=_WHOLE, expected="ModelError", says=("ModelOpt",))
def modelopt(folder: Path) -> Got:
    return resolved(folder, files={"hf_quant_config.json": {"quantization": {"quant_algo": "FP8"}}})


@case(
    "checkpoint: two weights are NaN",
    kind=_WHOLE,
    expected="ModelError",
    says=("NaN or infinite", f"{QUERY} in", ": 2"),
)
def not_a_number(folder: Path) -> Got:
    weight = random_weights()[QUERY]
    weight[0, :2] = np.nan
    return resolved(folder, {QUERY: weight})


@case("checkpoint: a float16 weight is infinite", kind=_WHOLE, expected="ModelError", says=("NaN or infinite", ": 1"))
def infinite(folder: Path) -> Got:
    weight = random_weights()[QUERY].astype(np.float16)
    weight[5, 5] = -np.inf
    return resolved(folder, {QUERY: weight})


@case("GGUF: a tensor of another shape", kind=_WHOLE, expected="ModelError", says=("attn_v", "(16, 64), not (32, 64)"))
def gguf_shape(folder: Path) -> Got:
    name = "model.layers.0.self_attn.v_proj.weight"
    return converted(folder, {name: np.zeros((16, 64), np.float32)})


@case("GGUF: weights that are NaN", kind=_WHOLE, expected="ModelError", says=("NaN or infinite", "ffn_up"))
def gguf_not_a_number(folder: Path) -> Got:
    return converted(folder, {"model.layers.1.mlp.up_proj.weight": np.full((96, 64), np.nan, np.float32)})


@case("GGUF: whole", kind=_WHOLE, expected="accepted")
def gguf_whole(folder: Path) -> Got:
    return converted(folder, {})


def converted(folder: Path, tensors: dict[str, Any]) -> Got:
    write_gguf(folder / "model.gguf", {**random_weights(), **tensors})
    (folder / "checkpoint").mkdir()
    return attempt(convert_gguf, folder / "model.gguf", folder / "checkpoint", print)


@case("GGUF: an array longer than the file", kind="hang", expected="ModelError", says=("it ends where",))
def gguf_endless_array(folder: Path) -> Got:
    """The reader goes on for ever: behind the end of the file it finds nothing, and 2**63 times so."""
    import struct

    key = b"tokenizer.ggml.token_type"
    content = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<IIQ", 9, 5, (1 << 63) - 1)
    (folder / "model.gguf").write_bytes(content)
    return attempt(convert_gguf, folder / "model.gguf", folder, print)


def built(folder: Path, kind: str, add: Callable[[int], dict[str, Any]], half: bool = False, **sizes: int) -> Got:
    """A model as Transformers saves it, and what older versions stored beside the weights of each of its layers."""
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, vocab_size=263, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    (model.half() if half else model).save_pretrained(folder / "checkpoint")
    file = folder / "checkpoint" / "model.safetensors"
    added = {name: value for layer in range(2) for name, value in add(layer).items()}
    stored = {**load_file(file), **{name: torch.as_tensor(value) for name, value in added.items()}}
    save({name: value.clone().contiguous() for name, value in stored.items()}, file, metadata={"format": "pt"})
    return attempt(resolve, f"path:{folder / 'checkpoint'}", cache=folder / "cache", progress=print)


NEOX = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
OLDER = {"n_embd": 32, "n_layer": 2, "n_head": 4}
ROTARY = {**OLDER, "rotary_dim": 4}
_SOUND = "sound, and refused"


def masks(part: str, infinite: bool = False) -> Callable[[int], dict[str, Any]]:
    """A causal mask and what its gaps are filled with; in float16 that is infinite."""

    def add(layer: int) -> dict[str, Any]:
        filling = np.float16(-np.inf) if infinite else np.float32(-1e9)
        prefix = part.format(layer)
        return {f"{prefix}.bias": np.tril(np.ones((1, 1, 8, 8), np.uint8)), f"{prefix}.masked_bias": np.array(filling)}

    return add


@case("checkpoint: GPT-NeoX in float16 with stored masks", kind=_SOUND, expected="accepted")
def masks_of_gpt_neox(folder: Path) -> Got:
    return built(folder, "gpt_neox", masks("gpt_neox.layers.{}.attention", infinite=True), half=True, **NEOX)


@case("checkpoint: GPT-J in float16 with stored masks", kind=_SOUND, expected="accepted")
def masks_of_gptj(folder: Path) -> Got:
    return built(folder, "gptj", masks("transformer.h.{}.attn", infinite=True), half=True, **ROTARY)


@case("checkpoint: GPT-Neo with stored masks", kind=_SOUND, expected="accepted")
def masks_of_gpt_neo(folder: Path) -> Got:
    sizes: Any = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    return built(folder, "gpt_neo", masks("transformer.h.{}.attn.attention"), **sizes)


@case("checkpoint: GPT-2 with stored masks", kind=_SOUND, expected="accepted")
def masks_of_gpt2(folder: Path) -> Got:
    return built(folder, "gpt2", masks("transformer.h.{}.attn"), **OLDER)


@case("checkpoint: CodeGen with a stored causal_mask", kind=_SOUND, expected="accepted")
def mask_of_codegen(folder: Path) -> Got:
    def add(layer: int) -> dict[str, Any]:
        return {f"transformer.h.{layer}.attn.causal_mask": np.ones((1, 1, 8, 8), np.bool_)}

    return built(folder, "codegen", add, **ROTARY)


@case("checkpoint: GPTBigCode with a stored mask", kind=_SOUND, expected="accepted")
def mask_of_gpt_bigcode(folder: Path) -> Got:
    def add(layer: int) -> dict[str, Any]:
        return {f"transformer.h.{layer}.attn.bias": np.ones((8, 8), np.bool_)}

    return built(folder, "gpt_bigcode", add, **OLDER)


@case("checkpoint: attn.bias that is no mask", kind=_WHOLE, expected="ModelError", says=("2 unexpected", "attn.bias"))
def bias_that_is_no_mask(folder: Path) -> Got:
    return built(folder, "gptj", lambda layer: {f"transformer.h.{layer}.attn.bias": np.ones(32, np.float32)}, **ROTARY)


@case("checkpoint: GPT-NeoX with a weight that is infinite", kind=_WHOLE, expected="ModelError", says=("dense.bias",))
def infinite_beside_masks(folder: Path) -> Got:
    def add(layer: int) -> dict[str, Any]:
        return {f"gpt_neox.layers.{layer}.attention.dense.bias": np.full(32, np.inf, np.float32)}

    return built(folder, "gpt_neox", add, **NEOX)


EXPERTS: Any = {**NEOX, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 8}


@case("checkpoint: experts of GPT-OSS in one tensor", kind=_SOUND, expected="accepted")
def experts_together(folder: Path) -> Got:
    return built(folder, "gpt_oss", lambda _: {}, **EXPERTS)


@case(
    "checkpoint: experts of GPT-OSS packed as int8, no word of it",
    kind=_WHOLE,
    expected="ModelError",
    says=("quantized already", "2 weights of element type I8", "gate_up_proj"),
)
def packed_experts(folder: Path) -> Got:
    def add(layer: int) -> dict[str, Any]:
        return {f"model.layers.{layer}.mlp.experts.gate_up_proj": np.ones((2, 32, 128), np.int8)}

    return built(folder, "gpt_oss", add, **EXPERTS)


@case("checkpoint: experts of GPT-OSS as float8", kind=_WHOLE, expected="ModelError", says=("F8_E4M3", "down_proj"))
def float8_experts(folder: Path) -> Got:
    import torch

    def add(layer: int) -> dict[str, Any]:
        return {f"model.layers.{layer}.mlp.experts.down_proj": torch.ones((2, 64, 32)).to(torch.float8_e4m3fn)}

    return built(folder, "gpt_oss", add, **EXPERTS)


@case("checkpoint: a bias as int8", kind=_WHOLE, expected="ModelError", says=("element type I8", "q_proj.bias"))
def packed_bias(folder: Path) -> Got:
    def add(layer: int) -> dict[str, Any]:
        return {f"model.layers.{layer}.self_attn.q_proj.bias": np.ones(32, np.int8)}

    return built(folder, "qwen2", add, num_key_value_heads=2, **NEOX)


@case("checkpoint: a norm of truth values", kind=_WHOLE, expected="ModelError", says=("element type BOOL", "norm"))
def truth_values(folder: Path) -> Got:
    return resolved(folder, {"model.norm.weight": np.ones(64, np.bool_)})


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "somewhere/else", "task_type": "CAUSAL_LM"}


@case(
    "checkpoint: adapter_config.json beside whole weights",
    kind=_WHOLE,
    expected="ModelError",
    says=("adapter to another model", "merge the adapter", "take adapter_config.json out"),
)
def adapter_beside_weights(folder: Path) -> Got:
    return resolved(folder, files={"adapter_config.json": ADAPTER})


@case("checkpoint: an adapter alone", kind=_WHOLE, expected="ModelError", says=("merge the adapter",))
def adapter_alone(folder: Path) -> Got:
    made = folder / "adapter"
    made.mkdir()
    save_file({"lora_A.weight": np.ones((2, 2), np.float32)}, made / "adapter_model.safetensors")
    (made / "adapter_config.json").write_text(json.dumps(ADAPTER))
    return attempt(resolve, f"path:{made}", cache=folder / "cache", progress=print)


@case("engine: adapter_config.json in the checkpoint's folder", kind=_WHOLE, expected="config.json model.safetensors")
def adapter_in_an_engine(folder: Path) -> Got:
    checkpoint, engine = folder / "checkpoint", folder / "engine"
    for made in (checkpoint, engine):
        made.mkdir()
    for name in ("config.json", "adapter_config.json"):
        (checkpoint / name).write_text("{}")
    save_file({"w": np.ones(1, np.float32)}, checkpoint / "model.safetensors")
    link_checkpoint(checkpoint, engine)
    return Got(" ".join(sorted(file.name for file in engine.iterdir())))


@case("config.json: rms_norm_eps -1", kind=_WHOLE, expected="ModelError", says=("rms_norm_eps is -1", "from 0"))
def negative_epsilon(folder: Path) -> Got:
    return resolved(folder, rms_norm_eps=-1)


@case("config.json: rms_norm_eps as text", kind=_WHOLE, expected="ModelError", says=("rms_norm_eps is '1e-5'",))
def epsilon_as_text(folder: Path) -> Got:
    return resolved(folder, rms_norm_eps="1e-5")


@case("config.json: rope_theta NaN", kind=_WHOLE, expected="ModelError", says=("rope_theta is nan", "above 0"))
def rotary_base_is_no_number(folder: Path) -> Got:
    return resolved(folder, rope_theta=float("nan"))


@case("config.json: rope_theta 0 in rope_parameters", kind=_WHOLE, expected="ModelError", says=("rope_parameters.",))
def rotary_base_is_zero(folder: Path) -> Got:
    return resolved(folder, rope_parameters={"rope_type": "default", "rope_theta": 0})


@case("config.json: rope_scaling.factor infinite", kind=_WHOLE, expected="ModelError", says=("rope_scaling.factor",))
def rotary_factor_is_infinite(folder: Path) -> Got:
    return resolved(folder, rope_scaling={"rope_type": "linear", "factor": float("inf")})


@case("config.json: max_position_embeddings 0", kind=_WHOLE, expected="ModelError", says=("max_position_embeddings",))
def no_positions(folder: Path) -> Got:
    return resolved(folder, max_position_embeddings=0)


@case("config.json: attention_dropout NaN", kind=_WHOLE, expected="ModelError", says=("attention_dropout is NaN",))
def setting_is_no_number(folder: Path) -> Got:
    return resolved(folder, attention_dropout=float("nan"))


@case("config.json: numbers left to the model, and an open limit", kind=_SOUND, expected="accepted")
def settings_left_out(folder: Path) -> Got:
    return resolved(folder, rope_scaling=None, n_positions=None, time_step_limit=[0.0, float("inf")], rms_norm_eps=0.0)
