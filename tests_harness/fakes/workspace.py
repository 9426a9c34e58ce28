"""A place for inner sessions to work in: a tiny checkpoint, data of a few items, and a configuration for the fake."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from enginegate.gates.sequential import RATIO_SHIFT
from enginegate.models.sources import resolve

REPOSITORY = Path(__file__).resolve().parents[2]
FAKES = Path(__file__).resolve().parent
ITEMS = 48
#: A Llama of 4,080 weights. No engine computes with them, but they must be those of their config.
VOCABULARY, HIDDEN, MLP = 259, 8, 72
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

#: What a fake's ratios shift by from session to session, at most.
SHIFT = dict.fromkeys(("speedup", "ttft", "itl"), RATIO_SHIFT.scale)
CONFIG: dict[str, Any] = {
    "schema": 1,
    "model": {"name": "toy", "source": "path:checkpoint"},
    "default_engine": "fake",
    "engines": {"fake": {"precisions": ["int8_wo", "int4_wo"]}},
    "limits": {"max_batch_size": 4, "max_input_len": 256, "max_output_len": 32},
    "reference": {"backend": "fake", "precision": "fp32"},
    "workload": {"batch_sizes": [1, 2], "input_len": 16, "output_len": 8},
    "quality": {
        "reference": {"backend": "fake", "precision": "fp32"},
        **{name: f"data/{name}.jsonl" for name in ("prompts", "articles", "passages", "questions")},
        "similarity_tokens": 24,
        "summary_tokens": 24,
    },
    "gates": {"quality": {"accuracy_visible": 0.4, "flips": 0.2}},
    "floors": {"fake": {"int8_wo": {"speedup": {"b1": 1.5}}, "int4_wo": {"perplexity_ratio": 1.3}}},
}


@dataclass(frozen=True)
class Workspace:
    """Folders that inner sessions share; nothing in them changes but the cache and the log."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "toy.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "engines.log"

    @property
    def environment(self) -> dict[str, str]:
        """What an inner session needs, in this process or in one of its own."""
        return {
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "harness"), str(FAKES)]),
            "ENGINEGATE_CACHE": str(self.folder / "cache"),
            "ENGINEGATE_FAKE_LOG": str(self.log),
        }

    def events(self) -> list[str]:
        """What happened to fake engines so far, oldest first."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def variant(self, name: str, **sections: object) -> Path:
        """Another configuration, with some sections replaced."""
        path = self.folder / f"{name}.yaml"
        content = {**CONFIG, **sections}
        content["gates"] = _repeating(content["gates"])
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path


def _repeating(gates: Any) -> dict[str, Any]:
    """The gates believing that ratios repeat, as the fake's do."""
    speed = gates.get("speed", {})
    shift = speed.get("shift", {})
    return {**gates, "speed": {**speed, "shift": {**SHIFT, **shift} if isinstance(shift, dict) else shift}}


def make_workspace(folder: Path) -> Workspace:
    """Write the checkpoint, the data and the configuration into ``folder``."""
    workspace = Workspace(folder)
    _write_checkpoint(folder / "checkpoint")
    (folder / "data").mkdir()
    for name, items in _data().items():
        lines = "".join(json.dumps(item) + "\n" for item in items)
        (folder / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    workspace.variant("toy")
    # Looked at once here: each inner session in a process of its own would import torch for it.
    resolve(f"path:{folder / 'checkpoint'}", cache=folder / "cache", progress=lambda _: None)
    return workspace


def _write_checkpoint(folder: Path) -> None:
    import numpy as np
    from enginegate.models.bpe import write_tokenizer
    from safetensors.numpy import save_file
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir()
    config = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    layer = "model.layers.0"
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        **{f"{layer}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"},
        **{f"{layer}.mlp.{name}_proj.weight": (MLP, HIDDEN) for name in ("gate", "up")},
        f"{layer}.mlp.down_proj.weight": (HIDDEN, MLP),
        f"{layer}.input_layernorm.weight": (HIDDEN,),
        f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
    }
    save_file({name: np.ones(shape, np.float16) for name, shape in shapes.items()}, folder / "model.safetensors")
    write_tokenizer(
        folder,
        tokens=["<pad>", "<s>", "</s>", *sorted(ByteLevel.alphabet())],
        merges=[],
        control_ids=range(3),
        special_ids={"bos": 1, "eos": 2, "pad": 0, "unk": 0},
        split_digits=False,
        chat_template=CHAT_TEMPLATE,
        max_length=512,
    )


def _data() -> dict[str, list[dict[str, object]]]:
    numbers = range(ITEMS)
    return {
        "prompts": [{"id": f"p{i}", "category": "toy", "text": f"Tell me about number {i}."} for i in numbers],
        "passages": [
            {"id": f"h{i}", "topic": "toy", "text": f"Number {i} follows number {i - 1} as ever."} for i in numbers
        ],
        "articles": [
            {"id": f"a{i}", "title": f"{i}", "text": f"Number {i} was seen again today.", "summary": f"It is {i}."}
            for i in numbers
        ],
        "questions": [_question(i) for i in numbers],
    }


def _question(number: int) -> dict[str, object]:
    """The right choice is that of the letter first in the alphabet, which the fake finds likely."""
    answer = number % 4
    choices = [letter * 4 for letter in "nop"]
    choices.insert(answer, "mmmm")
    return {"question": f"Which of these is number {number}?", "subject": "toy", "choices": choices, "answer": answer}
