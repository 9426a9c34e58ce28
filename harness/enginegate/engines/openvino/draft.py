"""A smaller engine that guesses for a larger one: what GenAI wants of both, and of their folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec
from enginegate.models.vocabulary import vocabulary_size

#: The folder of a built engine of the same vocabulary, as for TensorRT-LLM.
DRAFT = "ENGINEGATE_DRAFT_MODEL"
_MODEL = "openvino_model.xml"


def draft_folder(spec: EngineSpec, vocabulary: int) -> Path:
    """The engine that guesses. Raises CapabilityError where none is named, or it cannot."""
    hint = f"set ${DRAFT} to the engine folder of a smaller model with the same tokenizer (enginegate engines list)"
    named = os.environ.get(DRAFT, "")
    if not named:
        raise CapabilityError(f"{spec.id}: speculation draft needs a draft model, and ${DRAFT} names none", hint)
    folder = Path(named)
    if not (folder / _MODEL).is_file():
        raise CapabilityError(f"{spec.id}: the draft model {folder} has no {_MODEL}", hint)
    theirs = vocabulary_size(folder)
    if theirs != vocabulary:
        raise CapabilityError(f"{spec.id}: the draft model {folder} has {theirs} tokens, this one {vocabulary}", hint)
    return folder


def with_tokenizers(folders: tuple[Path, ...], scratch: Path) -> list[Path]:
    """The same engines in folders that hold a tokenizer, without which GenAI takes no draft model.

    GenAI asks whether both tokenizers are alike, and uses them for nothing else here, as prompts are token ids. So both
    get one of single bytes.
    """
    tokenizer, detokenizer = _byte_tokenizer()
    import openvino

    made = []
    for number, folder in enumerate(folders):
        place = scratch / str(number)
        place.mkdir()
        for file in folder.iterdir():
            (place / file.name).symlink_to(file.resolve())
        openvino.save_model(tokenizer, place / "openvino_tokenizer.xml")
        openvino.save_model(detokenizer, place / "openvino_detokenizer.xml")
        made.append(place)
    return made


def _byte_tokenizer() -> tuple[Any, Any]:
    from openvino_tokenizers import convert_tokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    words = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=special[0], bos_token=special[1], eos_token=special[2]
    )
    made: tuple[Any, Any] = convert_tokenizer(fast, with_detokenizer=True)
    return made
