"""Small checkpoints for the cases and the fuzzing, those of the tests of models."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "models"))

from models_fakes import CONFIG, random_weights, write_gguf, write_small_checkpoint

__all__ = ["CONFIG", "random_weights", "write_gguf", "write_small_checkpoint"]
