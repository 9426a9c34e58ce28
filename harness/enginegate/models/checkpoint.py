"""A checkpoint on this machine's disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """A local Hugging Face checkpoint.

    Attributes:
        path: folder with ``config.json``, safetensors weights and the tokenizer's files.
        digest: SHA-256 over the files' names and contents; two checkpoints with one digest are the same model.
        source: the source it came from, as written in the config.
        random_weights: True where the weights carry no meaning, so that quality must not be measured on it.
        dequantized: what most of the weights were quantized to before, as ``4 bits (Q4_K_M)``; empty where none were.
        end_ids: tokens that end an answer, the tokenizer's own among them; empty where the tokenizer was not read.
    """

    path: Path
    digest: str
    source: str
    random_weights: bool = False
    dequantized: str = ""
    end_ids: tuple[int, ...] = ()
