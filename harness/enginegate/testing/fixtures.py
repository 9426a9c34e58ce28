"""A tiny random Llama with a tokenizer, and the engines built from it, each built and loaded once a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec
from enginegate.engines.base import Engine
from enginegate.engines.registry import load_backend
from enginegate.models.checkpoint import Checkpoint
from enginegate.testing.tiny_llama import save_tiny_llama

__all__ = ["calibration", "checkpoint", "shared_engine", "workshop"]

VOCABULARY = 512
END = 2


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The tiny Llama, with a tokenizer of bytes. Skips where torch is not installed."""
    pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny_llama(folder, vocab_size=VOCABULARY, eos_token_id=END, pad_token_id=END)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    return Checkpoint(folder, "0" * 64, f"path:{folder}", random_weights=True)


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts to calibrate quantization with."""
    file = tmp_path_factory.mktemp("calibration") / "passages.jsonl"
    lines = [
        json.dumps({"text": f"Passage {number} tells of rivers, of trains and of {number} ships."})
        for number in range(8)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Workshop:
    """Builds engines of the tiny model, each folder once."""

    checkpoint: Checkpoint
    calibration: Path
    root: Path

    def spec(self, backend: str, precision: str) -> EngineSpec:
        """What is built: batches of 4, prompts of 48 and answers of 32 tokens."""
        return EngineSpec(
            model="tiny",
            backend=backend,
            precision=precision,
            quantization=QuantizationSpec(group_size=32, calibration=str(self.calibration), calibration_samples=4),
            max_batch_size=4,
            max_input_len=48,
            max_output_len=32,
        )

    def folder(self, backend: str, precision: str) -> Path:
        """The built engine's folder."""
        spec = self.spec(backend, precision)
        folder = self.root / spec.id
        if not folder.exists():
            folder.mkdir()
            load_backend(backend).build(spec, self.checkpoint, folder, lambda _: None)
        return folder

    def load(self, backend: str, precision: str, runtime: RuntimeSpec | None = None) -> Engine:
        """A fresh engine; the caller closes it."""
        spec = self.spec(backend, precision)
        return load_backend(backend).load(self.folder(backend, precision), spec, runtime or RuntimeSpec())


@pytest.fixture(scope="session")
def workshop(checkpoint: Checkpoint, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Builds and loads engines of the tiny model."""
    return Workshop(checkpoint, calibration, tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def shared_engine(workshop: Workshop) -> Iterator[Callable[[str, str], Engine]]:
    """Engines by backend and precision that tests share and must leave as they found them."""
    loaded: dict[tuple[str, str], Engine] = {}

    def get(backend: str, precision: str) -> Engine:
        if (backend, precision) not in loaded:
            loaded[backend, precision] = workshop.load(backend, precision)
        return loaded[backend, precision]

    yield get
    for engine in loaded.values():
        engine.close()
