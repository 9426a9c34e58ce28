"""The one tokenizer of a model: every engine gets the token ids that this class makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError, edge
from enginegate.models.vocabulary import check_files, check_vocabulary, end_ids

#: A text of one letter, by which it is seen what a tokenizer puts before a text of its own accord.
_LETTER = "a"
_FETCH = "fetch the checkpoint again: its tokenizer's files are damaged, or of another revision"


class Tokenizer:
    """A checkpoint's tokenizer. Deterministic, reads local files only.

    Attributes:
        eos_ids: every id that ends an answer.
    """

    def __init__(
        self, folder: Path, tokenizer: Any, eos_ids: tuple[int, ...], plain_prompts: bool = False, add_bos: bool = False
    ) -> None:
        self._folder = folder
        self._plain_prompts = plain_prompts
        self._add_bos = add_bos
        self._tokenizer = tokenizer
        self.eos_ids = eos_ids

    @classmethod
    def load(cls, folder: Path, plain_prompts: bool = False, add_bos: bool = False) -> Tokenizer:
        """Read the tokenizer in a checkpoint's folder, and check that it belongs to the model.

        Args:
            folder: the checkpoint.
            plain_prompts: the model was never trained to chat: a user message is a text to be continued.
            add_bos: the model was trained with a BOS before every text; one that adds it itself needs no saying.

        Raises:
            ModelError: it has none, one that cannot be read, or one that does not fit the model; see
                ``check_vocabulary``.
        """
        check_files(folder)
        from transformers import AutoTokenizer

        hint = "copy tokenizer.json and tokenizer_config.json of the model into the folder"
        with edge(ModelError, f"{folder} has no tokenizer that can be read", hint):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with edge(ModelError, f"{folder}: the tokens that end an answer cannot be read", "correct eos_token_id"):
            ends = end_ids(folder, _optional_int(tokenizer.eos_token_id))
        made = cls(folder, tokenizer, ends, plain_prompts, add_bos)
        if add_bos and made.bos_id is None:
            raise ModelError(
                f"{folder}: quality.add_bos is set, but the tokenizer has no BOS token",
                "take quality.add_bos out, or name the model's bos_token in tokenizer_config.json",
            )
        with edge(ModelError, f"{folder}: the tokenizer's files cannot be held against the model", _FETCH):
            check_vocabulary(folder, made)
        return made

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with nothing added before or after. A marker such as ``<|im_end|>`` is one token."""
        with edge(ModelError, f"{self._folder}: the tokenizer cannot read {text[:60]!r}", "correct that text"):
            return [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def decode(self, ids: list[int] | tuple[int, ...], skip_special: bool = True) -> str:
        """The text of token ids, as it is: no space is tidied away."""
        with edge(ModelError, f"{self._folder}: the tokenizer cannot spell token ids", _FETCH):
            kept = {"skip_special_tokens": skip_special, "clean_up_tokenization_spaces": False}
            return str(self._tokenizer.decode(list(ids), **kept))

    def chat(self, user_text: str) -> list[int]:
        """Token ids of one user message in the model's chat template, ready for the assistant's answer.

        Raises:
            ModelError: the tokenizer has no chat template, or one that raises.
        """
        if self._plain_prompts:
            return [*self.opening, *self.encode(user_text)]
        self.require_chat()
        hint = "correct the template, or set quality.plain_prompts for a model never trained to chat"
        with edge(ModelError, f"{self._template_file()}: the chat template cannot be used", hint):
            encoded = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": user_text}], add_generation_prompt=True, tokenize=True, return_dict=True
            )
            return [int(i) for i in encoded["input_ids"]]

    def conversation(self, messages: Sequence[Mapping[str, str]], answer_next: bool = True) -> str:
        """The text of a conversation in the model's chat template.

        Args:
            messages: each with ``role`` and ``content``.
            answer_next: end where the assistant's answer begins; else the last message stays open, to be continued.

        Raises:
            ModelError: the tokenizer has no chat template, or one that refuses the conversation.
        """
        if not self.has_chat_template:
            raise ModelError(
                f"{self._folder / 'tokenizer_config.json'} has no chat_template", "add the model's, or ask without one"
            )
        roles = ", ".join(message["role"] for message in messages)
        problem = f"{self._template_file()}: the chat template cannot be used for a conversation of {roles}"
        with edge(ModelError, problem, "correct the template, or ask without one"):
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=answer_next,
                    continue_final_message=not answer_next,
                )
            )

    def require_chat(self) -> None:
        """Raise ModelError where prompts need a chat template, and there is none."""
        if not self.chats:
            raise ModelError(
                f"{self._folder / 'tokenizer_config.json'} has no chat_template",
                "add the model's chat_template, or set quality.plain_prompts for a model never trained to chat",
            )

    @property
    def name(self) -> str:
        """The name of the checkpoint's folder."""
        return self._folder.name

    @property
    def template(self) -> str | None:
        """The chat template as it is written, or None."""
        return str(self._tokenizer.chat_template) if self.has_chat_template else None

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer has one."""
        return bool(self._tokenizer.chat_template)

    @property
    def chats(self) -> bool:
        """Whether ``chat`` works."""
        return self._plain_prompts or self.has_chat_template

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Tokens before a plain prompt, as the model was trained; none where the chat template writes its own.

        They are those that the tokenizer puts before a text of its own accord, and BOS where ``add_bos`` says so.
        """
        if not self._plain_prompts:
            return ()
        with edge(ModelError, f"{self._folder}: the tokenizer cannot read {_LETTER!r}", _FETCH):
            whole = [int(i) for i in self._tokenizer(_LETTER)["input_ids"]]
        bare = self.encode(_LETTER)
        begins = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
        own = tuple(whole[: next(begins, 0)])
        bos = [self.bos_id] if self._add_bos and self.bos_id is not None and self.bos_id not in own else []
        return (*bos, *own)

    @property
    def bos_id(self) -> int | None:
        """Id of the token that begins a text, if the model has one. ``encode`` does not add it."""
        return _optional_int(self._tokenizer.bos_token_id)

    @property
    def uses_bos(self) -> bool:
        """Whether BOS is ever written: before texts by ``add_bos``, into prompts by the tokenizer or its template.

        Raises:
            ModelError: the chat template raises.
        """
        return self.bos_id is not None and (self._add_bos or (self.chats and self.bos_id in self.chat(_LETTER)))

    @property
    def pad_id(self) -> int:
        """Id to pad with: the tokenizer's own, else the first end token, else 0. Masked positions, so any id does."""
        own = _optional_int(self._tokenizer.pad_token_id)
        return own if own is not None else next(iter(self.eos_ids), 0)

    @property
    def markers(self) -> frozenset[int]:
        """Ids of special tokens that were added to the vocabulary."""
        added = self._tokenizer.added_tokens_decoder
        return frozenset(int(index) for index, token in added.items() if token.special)

    @property
    def special_ids(self) -> Mapping[str, int | None]:
        """The tokenizer's own ids of ``bos``, ``eos`` and ``pad``."""
        return {role: _optional_int(getattr(self._tokenizer, f"{role}_token_id")) for role in ("bos", "eos", "pad")}

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token, added ones included, and its id."""
        return {str(token): int(index) for token, index in self._tokenizer.get_vocab().items()}

    def _template_file(self) -> Path:
        own = self._folder / "chat_template.jinja"
        return own if own.is_file() else self._folder / "tokenizer_config.json"


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)
