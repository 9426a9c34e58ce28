"""What every backend reads of a checkpoint's folder, and takes over from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginegate.core.errors import EngineError, ModelError, edge
from enginegate.core.files import read_json
from enginegate.core.specs import QuantizationSpec
from enginegate.models.attention import AttentionKind, attention_of
from enginegate.models.integrity import ADAPTER, runs_code
from enginegate.models.loading import loading_problem
from enginegate.models.weights import other_weights


@dataclass(frozen=True)
class Geometry:
    """What decides the KV cache's size, and how long a sequence may be.

    Attributes:
        layers: attention layers.
        heads: KV heads of a layer; of the first kind of layers where they differ.
        head_size: elements of one head's key or value, likewise.
        positions: tokens that the model has positions for.
        mixed: its kinds of layers, as its configuration says; empty where all are as above.
    """

    layers: int
    heads: int
    head_size: int
    positions: int
    mixed: tuple[AttentionKind, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Geometry:
        """Read a Hugging Face configuration, or the ``pretrained_config`` of a TensorRT engine's.

        Raises ModelError where it describes a cache of an unknown kind, or says no number of positions.
        """
        attention = attention_of(config)
        if attention.positions is None:
            raise ModelError("config.json says no max_position_embeddings", "add it: the longest sequence in tokens")
        first = attention.kinds[0]
        return cls(attention.layers, first.kv_heads, first.key_size, attention.positions, attention.kinds)

    @classmethod
    def read(cls, folder: Path) -> Geometry:
        """Read ``config.json`` of a checkpoint or an engine."""
        return cls.of(read_config(folder))

    @property
    def kinds(self) -> tuple[AttentionKind, ...]:
        """The kinds of its layers, one where all are alike."""
        alike = AttentionKind(self.layers, self.heads, self.heads, self.head_size, self.head_size)
        return self.mixed or (alike,)

    @property
    def kv_elements_per_token(self) -> int:
        """Elements of one token's keys and values over all layers, each head's own."""
        return sum(kind.layers * kind.elements for kind in self.kinds)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a checkpoint or a built engine. Raises EngineError where it cannot be read."""
    return read_json(folder / "config.json", EngineError, "name a Hugging Face checkpoint, or rebuild the engine")


def check_loaded(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise EngineError for what Transformers' ``output_loading_info`` calls missing, unexpected or mismatched."""
    problem = loading_problem(folder, report)
    if problem:
        raise EngineError(problem, "fetch the checkpoint again, or take config.json and weights of one revision")


def link_file(file: Path, out_dir: Path) -> None:
    """Hard-link a file into ``out_dir``, or copy it where the file systems differ."""
    try:
        os.link(file.resolve(), out_dir / file.name)
    except OSError:
        shutil.copyfile(file, out_dir / file.name)


def link_checkpoint(checkpoint: Path, out_dir: Path) -> None:
    """Link a checkpoint's files into ``out_dir``. Raises EngineError where it is no checkpoint.

    Left out are pickles and code, an adapter's configuration, which would make loaders take another model, and weights
    that are not the model's own: an engine's size counts its files.

    Links rather than a pointer: a checkpoint that is moved or deleted later takes nothing with it, and the engine's own
    manifest covers the weights.
    """
    if not (checkpoint / "config.json").is_file():
        raise EngineError(f"checkpoint {checkpoint} has no config.json", "name a Hugging Face checkpoint")
    left_out = {*other_weights(checkpoint), checkpoint / ADAPTER}
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and not runs_code(file) and file not in left_out:
            link_file(file, out_dir)


def read_passages(quantization: QuantizationSpec) -> list[str]:
    """The first ``calibration_samples`` passages of the calibration file. Raises EngineError where there are none."""
    with edge(
        EngineError,
        f"calibration passages {quantization.calibration!r} cannot be read",
        "set quantization.calibration to a JSON-lines file with a text field",
    ):
        lines = Path(quantization.calibration).read_text(encoding="utf-8").splitlines()
        passages = [json.loads(line)["text"] for line in lines if line.strip()]
        if not all(isinstance(passage, str) for passage in passages):
            raise TypeError("a text is no string")
    if not passages:
        raise EngineError(f"{quantization.calibration} holds no passages", "add some, or name another file")
    return passages[: quantization.calibration_samples]
