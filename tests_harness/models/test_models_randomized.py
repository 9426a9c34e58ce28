"""Random checkpoints have the shapes of the models they are named after, and Transformers loads and runs them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from enginegate.models import randomized
from enginegate.models.integrity import check_checkpoint
from enginegate.models.randomized import GEOMETRIES, geometry, write_random_checkpoint
from enginegate.models.tokenizer import Tokenizer
from safetensors import safe_open

#: Parameters of the published models, tied ones counted once.
PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "tinyllama-1.1b": 1_100_048_384,
    "phi-2": 2_779_683_840,
    "llama-2-7b": 6_738_415_616,
    "gpt2": 124_439_808,
    "distilgpt2": 81_912_576,
    "llama-3.1-8b": 8_030_261_248,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
}


def write_config(name: str, folder: Path, **changes: int) -> None:
    config = {**geometry(name).config, **changes, "torch_dtype": geometry(name).dtype}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", sorted(GEOMETRIES.keys() - {"tiny"}))
def test_a_geometry_has_the_models_number_of_parameters(name: str, tmp_path: Path) -> None:
    write_config(name, tmp_path)
    shapes = randomized._parameter_shapes(tmp_path)
    assert sum(math.prod(shape) for shape in shapes.values()) == PARAMETERS[name]


#: The same architectures with two layers and a small vocabulary.
SMALL = {
    "tiny": {},
    "smollm2-135m": {"num_hidden_layers": 2, "vocab_size": 600},
    "phi-2": {"num_hidden_layers": 2, "vocab_size": 600, "hidden_size": 320, "intermediate_size": 640},
    "gpt2": {"n_layer": 2, "vocab_size": 600},
    "qwen2.5-0.5b": {"num_hidden_layers": 2, "vocab_size": 600},
    "llama-3.1-8b": {"num_hidden_layers": 2, "vocab_size": 600, "hidden_size": 512, "intermediate_size": 640},
}


@pytest.mark.parametrize("name", SMALL)
def test_transformers_loads_and_runs_it(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    shape = randomized.ModelShape({**geometry(name).config, **SMALL[name]}, geometry(name).dtype)
    write_random_checkpoint(shape, 1, tmp_path, print)
    check_checkpoint(tmp_path)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == getattr(torch, shape.dtype)
    tokenizer = Tokenizer.load(tmp_path)
    prompt = torch.tensor([tokenizer.chat("Hello")])
    with torch.inference_mode():
        logits = model.float()(prompt).logits
    assert torch.isfinite(logits).all()
    assert 0.1 < logits.std() < 10
    assert len(tokenizer.vocabulary) <= model.config.vocab_size
    assert tokenizer.decode(tokenizer.encode("naïve 東京 12 🙂")) == "naïve 東京 12 🙂"
    assert tokenizer.eos_ids == (2,)


def test_shards_are_those_of_save_pretrained(tmp_path: Path, monkeypatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(randomized, "_SHARD_BYTES", 100_000)
    (tmp_path / "one").mkdir()
    write_random_checkpoint(geometry("tiny"), 5, tmp_path / "one", print)
    check_checkpoint(tmp_path / "one")
    shards = sorted(path.name for path in (tmp_path / "one").glob("*.safetensors"))
    assert len(shards) > 1
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    monkeypatch.undo()
    (tmp_path / "two").mkdir()
    write_random_checkpoint(geometry("tiny"), 5, tmp_path / "two", print)
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_in_the_half_precision_named_and_of_the_scale_promised(tmp_path: Path) -> None:
    write_random_checkpoint(geometry("tiny"), 0, tmp_path, print)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        matrix = file.get_tensor("model.embed_tokens.weight")
        norm = file.get_tensor("model.norm.weight")
    assert str(matrix.dtype) == "torch.bfloat16"
    assert (norm == 1).all()
    assert matrix.float().std().item() == pytest.approx(64**-0.5, rel=0.02)
    assert abs(matrix.float().mean().item()) < 0.01
