"""The one tokenizer of a model: every engine gets the token ids that this class makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError, edge
from enginegate.models.integrity import read_checkpoint_json


class Tokenizer:
    """A checkpoint's tokenizer. Deterministic, reads local files only."""

    def __init__(self, folder: Path, tokenizer: Any, eos_ids: tuple[int, ...], plain_prompts: bool = False) -> None:
        self._folder = folder
        self._plain_prompts = plain_prompts
        self._tokenizer = tokenizer
        self.eos_ids = eos_ids

    @classmethod
    def load(cls, folder: Path, plain_prompts: bool = False) -> Tokenizer:
        """Read the tokenizer in a checkpoint's folder.

        Args:
            folder: the checkpoint.
            plain_prompts: the model was never trained to chat: a user message is a text to be continued.

        Raises:
            ModelError: it has none, or one that cannot be read.
        """
        from transformers import AutoTokenizer

        hint = "copy tokenizer.json and tokenizer_config.json of the model into the folder"
        with edge(ModelError, f"{folder} has no tokenizer that can be read", hint):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with edge(ModelError, f"{folder}: the tokens that end an answer cannot be read", "correct eos_token_id"):
            return cls(folder, tokenizer, _eos_ids(folder, tokenizer), plain_prompts)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added before or after. A marker such as ``<|im_end|>`` is one token."""
        with edge(ModelError, f"{self._folder}: the tokenizer cannot read {text[:60]!r}", "correct that text"):
            return [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def decode(self, ids: list[int] | tuple[int, ...], skip_special: bool = True) -> str:
        """The text of token ids, as it is: no space is tidied away."""
        with edge(ModelError, f"{self._folder}: the tokenizer cannot spell token ids", "fetch the checkpoint again"):
            kept = {"skip_special_tokens": skip_special, "clean_up_tokenization_spaces": False}
            return str(self._tokenizer.decode(list(ids), **kept))

    def chat(self, user_text: str) -> list[int]:
        """Token ids of one user message in the model's chat template, ready for the assistant's answer.

        Raises:
            ModelError: the tokenizer has no chat template, or it cannot be rendered.
        """
        if self._plain_prompts:
            return self.encode(user_text)
        if not self.has_chat_template:
            raise ModelError(
                f"{self._folder / 'tokenizer_config.json'} has no chat_template",
                "add the model's chat_template, or set quality.plain_prompts for a model never trained to chat",
            )
        hint = "correct chat_template in the checkpoint, or set quality.plain_prompts for a model never trained to chat"
        with edge(ModelError, f"{self._folder}: the chat template cannot be rendered for a user's message", hint):
            encoded = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": user_text}], add_generation_prompt=True, tokenize=True, return_dict=True
            )
            return [int(i) for i in encoded["input_ids"]]

    @property
    def has_chat_template(self) -> bool:
        """Whether ``chat`` works."""
        return bool(self._tokenizer.chat_template)

    @property
    def bos_id(self) -> int | None:
        """Id of the token that begins a text, if the model has one. ``encode`` does not add it."""
        return _optional_int(self._tokenizer.bos_token_id)

    @property
    def pad_id(self) -> int:
        """Id to pad with: the tokenizer's own, else the first end token, else 0. Masked positions, so any id does."""
        own = _optional_int(self._tokenizer.pad_token_id)
        return own if own is not None else next(iter(self.eos_ids), 0)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, markers included; ids lie below it. A model's own vocabulary may be larger (padding)."""
        return len(self._tokenizer)


def _eos_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends an answer: of ``generation_config.json`` first, then the tokenizer's own."""
    path = folder / "generation_config.json"
    named = read_checkpoint_json(path).get("eos_token_id") if path.exists() else None
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)
