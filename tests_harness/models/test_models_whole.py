"""A checkpoint whose tensors are not those of its config is refused, by whichever way it comes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from enginegate.core.errors import EngineError, EngineGateError, ModelError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.openvino.build import export
from enginegate.engines.registry import load_backend
from enginegate.models import whole
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.digest import folder_digest, read_content
from enginegate.models.loading import loading_problem
from enginegate.models.quantized import quantization_of
from enginegate.models.sources import resolve
from enginegate.models.weights import weight_files
from enginegate.models.whole import check_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from models_fakes import random_weights, write_small_checkpoint
from safetensors.numpy import load_file, save_file

QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_checkpoint(tmp_path / "checkpoint")


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Write the weights anew with some tensors replaced, added or, where None, left out."""
    kept = {**load_file(folder / "model.safetensors"), **tensors}
    save_file({name: value for name, value in kept.items() if value is not None}, folder / "model.safetensors")


def configure(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def refusal(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)
    assert caught.value.hint
    return caught.value.problem


# what does not fit


def test_a_missing_tensor(folder: Path, tmp_path: Path) -> None:
    change(folder, **{QUERY: None})
    assert f"1 missing ({QUERY})" in refusal(folder, tmp_path)


def test_many_missing_tensors_are_counted_and_the_first_named(folder: Path, tmp_path: Path) -> None:
    change(folder, **{name: None for name in random_weights() if "layers.1" in name})
    problem = refusal(folder, tmp_path)
    assert "9 missing (model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight, " in problem
    assert ", …)" in problem


def test_a_tensor_too_many(folder: Path, tmp_path: Path) -> None:
    change(folder, **{"model.layers.2.mlp.up_proj.weight": np.zeros((96, 64), np.float32)})
    assert "1 unexpected (model.layers.2.mlp.up_proj.weight)" in refusal(folder, tmp_path)


def test_a_tensor_of_another_shape(folder: Path, tmp_path: Path) -> None:
    change(folder, **{QUERY: np.zeros((32, 64), np.float32)})
    assert f"1 of another shape ({QUERY}: stored (32, 64), in the model (64, 64))" in refusal(folder, tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_hidden_layers": 1}, "9 unexpected"),
        ({"num_hidden_layers": 3}, "9 missing"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but the files hold 20 tensors"),
        ({"vocab_size": 264}, "of another shape (model.embed_tokens.weight: stored (263, 64), in the model (264, 64))"),
        ({"num_key_value_heads": 4}, "4 of another shape"),
        ({"tie_word_embeddings": False}, "1 missing (lm_head.weight)"),
        ({"model_type": "gpt2"}, "missing"),
        ({"model_type": "no-such-model"}, "cannot make this model"),
        ({"model_type": "bert"}, ""),
        ({"model_type": "clip"}, "cannot make this model"),
        ({"hidden_size": "64"}, ""),
        ({"num_attention_heads": 0}, ""),
        ({"hidden_act": "nothing"}, "cannot make this model"),
    ],
)
def test_a_config_of_another_model(keys: dict[str, object], message: str, folder: Path, tmp_path: Path) -> None:
    configure(folder, **keys)
    assert message in refusal(folder, tmp_path)


def test_tied_weights_that_differ(folder: Path, tmp_path: Path) -> None:
    """Transformers 5 then takes both, Transformers 4 and vLLM take one: the engines would be two models."""
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    change(folder, **{"lm_head.weight": embedding + 1})
    assert "two with different values" in refusal(folder, tmp_path)
    configure(folder, tie_word_embeddings=False)
    resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)


def test_torch_that_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ModelError, match="torch is not installed"):
        check_tensors(folder)


# what does


def test_tied_weights_stored_twice_pass(folder: Path) -> None:
    change(folder, **{"lm_head.weight": load_file(folder / "model.safetensors")["model.embed_tokens.weight"]})
    check_tensors(folder)


def test_names_without_the_models_prefix_pass(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("model."): value for name, value in stored.items()}, folder / "model.safetensors")
    check_tensors(folder)


def test_tables_that_transformers_ignores_pass(folder: Path) -> None:
    change(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)})
    check_tensors(folder)


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
ARCHITECTURES = {
    "mixtral": {"num_local_experts": 3, "num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen2_moe": {"num_experts": 3, "num_key_value_heads": 2, "moe_intermediate_size": 16},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "falcon": {},
    "phi": {},
    "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
    "stablelm": {"num_key_value_heads": 2},
    "starcoder2": {"num_key_value_heads": 2},
    "mamba": {},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_save_pretrained_writes_passes_and_a_gap_in_it_does_not(kind: str, tmp_path: Path) -> None:
    """Experts that are stored one by one and merged, renamed and prefixed tensors: Transformers' own rules hold."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **SMALL, **ARCHITECTURES[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    check_tensors(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    name = next(name for name in reversed(stored) if stored[name].ndim > 1 and "embed" not in name)
    change(tmp_path, **{name: None})
    with pytest.raises(ModelError):
        check_tensors(tmp_path)


def test_experts_that_one_tensor_holds_together_may_be_more_than_the_tensors(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"num_experts": 40, "num_key_value_heads": 2, "moe_intermediate_size": 4, "num_hidden_layers": 1}
    config = AutoConfig.for_model("qwen2_moe", **{**SMALL, **sizes})
    model = AutoModelForCausalLM.from_config(config)
    model.config.save_pretrained(tmp_path)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    check_tensors(tmp_path)


def test_it_is_asked_once_for_each_content(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(whole, "check_tensors", asked.append)
    for _ in range(2):
        resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)
    assert asked == [folder]
    configure(folder, rms_norm_eps=1e-6)
    resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)
    assert asked == [folder, folder]


# files and index


def shard(folder: Path, placed: dict[str, str] | None = None) -> dict[str, str]:
    """Split the weights into two files; the index says where they are, or what ``placed`` says."""
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {"a.safetensors": "layers.0", "b.safetensors": ""}
    where: dict[str, str] = {}
    for name in stored:
        where[name] = next(file for file, part in files.items() if part in name)
    for file in files:
        save_file({name: stored[name] for name in stored if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {**where, **(placed or {})}}))
    return where


def test_two_files_and_their_index_pass(folder: Path, tmp_path: Path) -> None:
    shard(folder)
    resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)


def test_an_index_that_names_a_tensor_its_file_lacks(folder: Path, tmp_path: Path) -> None:
    shard(folder, {"model.extra.weight": "a.safetensors"})
    assert "a.safetensors lacks tensors that" in refusal(folder, tmp_path)
    assert "1 (model.extra.weight)" in refusal(folder, tmp_path)


def test_an_index_beside_a_single_file_that_names_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    placed = dict.fromkeys([*random_weights(), "model.extra.weight"], "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert "lacks tensors" in refusal(folder, tmp_path)


def test_an_index_of_other_files_beside_a_single_file_is_no_concern(folder: Path, tmp_path: Path) -> None:
    """It was left behind when parts were put together; Transformers takes the single file, and no engine gets it."""
    placed = dict.fromkeys([*random_weights(), "model.extra.weight"], "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print).path == folder
    assert weight_files(folder) == (folder / "model.safetensors",)


def test_a_file_with_tensors_that_the_index_lacks(folder: Path, tmp_path: Path) -> None:
    shard(folder)
    index = folder / "model.safetensors.index.json"
    placed = json.loads(index.read_text())["weight_map"]
    del placed[QUERY]
    index.write_text(json.dumps({"weight_map": placed}))
    assert f"b.safetensors holds tensors that model.safetensors.index.json does not place in it: 1 ({QUERY})" in (
        refusal(folder, tmp_path)
    )


@pytest.mark.parametrize("placed", [{}, [], {"a": 1}, {"a": "../x.safetensors"}, {"a": "pytorch_model.bin"}])
def test_an_index_that_makes_no_sense(placed: object, folder: Path, tmp_path: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    refusal(folder, tmp_path)


def test_a_file_that_the_index_names_is_missing(folder: Path, tmp_path: Path) -> None:
    shard(folder)
    (folder / "b.safetensors").unlink()
    assert "b.safetensors is missing" in refusal(folder, tmp_path)


# quantized already


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq, 4 bits"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ("config.json", {"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
        ("config.json", {"compression_config": {"format": "pack-quantized"}}, "pack-quantized"),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, "GPTQ"),
        ("quant_config.json", {"w_bit": 4}, "AWQ"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, "ModelOpt"),
    ],
)
def test_a_file_that_says_so(file: str, content: dict[str, object], message: str, folder: Path, tmp_path: Path) -> None:
    known = json.loads((folder / file).read_text()) if file == "config.json" else {}
    (folder / file).write_text(json.dumps({**known, **content}))
    problem = refusal(folder, tmp_path)
    assert "is quantized already" in problem
    assert message in problem


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({QUERY: np.zeros((64, 64), np.int8)}, "element type I8"),
        ({QUERY: np.zeros((64, 32), np.uint8)}, "element type U8"),
        ({QUERY.replace("weight", "qweight"): np.zeros((8, 64), np.int32)}, "q_proj.qweight"),
        ({QUERY + "_scale": np.ones(1, np.float32)}, "weight_scale"),
        ({QUERY + "_scale_inv": np.ones(1, np.float32)}, "weight_scale_inv"),
        ({QUERY + ".absmax": np.ones(1, np.float32)}, "absmax"),
        ({QUERY + "_packed": np.ones((64, 8), np.int32)}, "weight_packed"),
    ],
)
def test_tensors_that_show_it(tensors: dict[str, np.ndarray], message: str, folder: Path, tmp_path: Path) -> None:
    change(folder, **tensors)
    problem = refusal(folder, tmp_path)
    assert "is quantized already" in problem
    assert message in problem


def test_fp8_weights(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    stored = {name: value.clone() for name, value in load(folder / "model.safetensors").items()}
    save({**stored, QUERY: stored[QUERY].to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    assert "element type F8_E4M3" in refusal(folder, tmp_path)


def test_a_checkpoint_that_states_no_quantization_is_plain(folder: Path) -> None:
    configure(folder, quantization_config=None)
    (folder / "hf_quant_config.json").write_text(
        json.dumps({"quantization": {"quant_algo": None, "kv_cache_quant_algo": None}})
    )
    assert quantization_of(folder) == ""


def test_quantized_weights_pass_for_backends_that_take_them_and_the_others_refuse(folder: Path, tmp_path: Path) -> None:
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    checkpoint = resolve(f"path:{folder}", cache=tmp_path / "cache", plain=False, progress=print)
    for name in ("hf", "hf-static", "hf-graph", "openvino", "vllm", "trtllm-torch"):
        (tmp_path / name).mkdir()
        with pytest.raises(ModelError, match="is quantized already: GPTQ"):
            load_backend(name).build(spec(name), checkpoint, tmp_path / name, print)


# values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weights_that_are_no_numbers(value: float, dtype: str, folder: Path, tmp_path: Path) -> None:
    weight = load_file(folder / "model.safetensors")[QUERY].astype(dtype)
    weight[3, :2] = value
    change(folder, **{QUERY: weight})
    assert f"NaN or infinite, in 1 tensors ({QUERY} in model.safetensors: 2)" in refusal(folder, tmp_path)
    assert "NaN or infinite" in refusal(folder, tmp_path)  # by the notes, without reading it again


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "vision/model.safetensors"])
def test_what_lies_beside_the_model_may_hold_what_is_no_number(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    save_file({"w": np.array([np.nan], np.float32)}, folder / name)
    resolve(f"path:{folder}", cache=tmp_path / "cache", progress=print)
    weight = load_file(folder / "model.safetensors")[QUERY]
    weight[3, :2] = np.inf
    change(folder, **{QUERY: weight})
    assert f"in 1 tensors ({QUERY} in model.safetensors: 2)" in refusal(folder, tmp_path)


@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=40),
    dtype=st.sampled_from(["bfloat16", "float16", "float8_e5m2", "float8_e4m3fn"]),
)
@settings(max_examples=60, deadline=None)
def test_not_finite_is_what_torch_calls_so(values: list[int], dtype: str, tmp_path_factory) -> None:
    import torch
    from safetensors.torch import save_file as save

    kind = getattr(torch, dtype)
    bits = torch.tensor(values, dtype=torch.int32).to(torch.int16 if kind.itemsize == 2 else torch.uint8)
    tensor = bits.view(kind)
    path = tmp_path_factory.mktemp("values") / "x.safetensors"
    save({"x": tensor, "y": torch.ones(3)}, path)
    expected = int((~torch.isfinite(tensor.float())).sum())
    assert read_content(path).not_finite == ({"x": expected} if expected else {})


def test_the_hash_is_that_of_the_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from enginegate.models import digest

    path = folder / "model.safetensors"
    monkeypatch.setattr(digest, "_CHUNK_BYTES", 1024)
    assert read_content(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1])
    assert read_content(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_older_notes_are_read_again(folder: Path, tmp_path: Path) -> None:
    first = folder_digest(folder, cache=tmp_path, progress=print)
    (notes,) = (tmp_path / "digests").iterdir()
    old = {name: entry[:2] for name, entry in json.loads(notes.read_text()).items()}
    notes.write_text(json.dumps(old))
    assert folder_digest(folder, cache=tmp_path, progress=print) == first


# loaders


def spec(backend: str, precision: str = "fp32") -> EngineSpec:
    precision = {"vllm": "bf16", "trtllm-torch": "bf16"}.get(backend, precision)
    return EngineSpec("small", backend, precision, max_batch_size=1, max_input_len=8, max_output_len=8)


@pytest.mark.parametrize("backend", ["hf", "hf-static", "hf-graph"])
@pytest.mark.parametrize("damage", ["missing", "unexpected", "of another shape"])
def test_the_reference_loads_nothing_that_does_not_fit(backend: str, damage: str, folder: Path) -> None:
    tensors: dict[str, dict[str, np.ndarray | None]] = {
        "missing": {QUERY: None},
        "unexpected": {"model.more.weight": np.ones((2, 2), np.float32)},
        "of another shape": {QUERY: np.zeros((32, 64), np.float32)},
    }
    change(folder, **tensors[damage])
    with pytest.raises(EngineError, match=f"1 {damage}"):
        load_backend(backend).load(folder, spec(backend), RuntimeSpec())


@pytest.mark.parametrize("precision", ["fp32", "int8_wo"])
def test_openvino_exports_nothing_that_does_not_fit(precision: str, folder: Path, tmp_path: Path) -> None:
    change(folder, **{QUERY: None})
    (tmp_path / "out").mkdir()
    with pytest.raises(EngineGateError, match=f"1 missing .{QUERY}"):
        export(spec("openvino", precision), folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_openvino_says_in_the_session_what_does_not_fit(folder: Path, tmp_path: Path) -> None:
    change(folder, **{QUERY: None})
    checkpoint = Checkpoint(folder, "0" * 64, f"path:{folder}")
    (tmp_path / "out").mkdir()
    with pytest.raises(EngineError, match=f"1 missing .{QUERY}"):
        load_backend("openvino").build(spec("openvino"), checkpoint, tmp_path / "out", print)


def test_a_report_of_several_kinds_is_one_line() -> None:
    report = {"missing_keys": {"b", "a"}, "unexpected_keys": [], "mismatched_keys": [("c", (1,), (2,))]}
    place = Path("model")
    begin = "the weights of model are not those of the model in its config.json: "
    assert loading_problem(place, report) == (
        f"{begin}2 missing (a, b); 1 of another shape (c: stored (1,), in the model (2,))"
    )
    old = {"mismatched_keys": ["c"], "error_msgs": ["no"]}
    assert loading_problem(place, old) == f"{begin}1 of another shape (c); 1 not loaded (no)"
    assert loading_problem(place, {}) == ""
    masks = ["transformer.h.0.attn.bias", "h.1.attn.attention.masked_bias", "h.0.attn.causal_mask"]
    assert loading_problem(place, {"unexpected_keys": masks}) == ""
    assert (
        loading_problem(place, {"unexpected_keys": [*masks, "h.c_attn.bias"]}) == f"{begin}1 unexpected (h.c_attn.bias)"
    )
