"""Whether a checkpoint's tokenizer, embedding, special tokens and chat template belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from enginegate.core.errors import ModelError
from enginegate.core.files import read_json
from enginegate.models.integrity import read_checkpoint_json

#: Files that a tokenizer can be made of. Without any of them Transformers makes one up, of a few tokens.
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "*.model", "*.tiktoken")
#: Ordinary text, which every tokenizer must give back. Letter case and spaces may be lost: some models have none.
_SAMPLE = "The quick brown fox jumps over 13 lazy dogs."
_ROLES = ("bos", "eos", "pad")
_ANOTHER = "take the tokenizer that the model was trained with: all files of one revision of the model"


class CheckedTokenizer(Protocol):
    """What is looked at of a tokenizer; see ``enginegate.models.tokenizer.Tokenizer``."""

    @property
    def eos_ids(self) -> Sequence[int]:
        """Tokens that end an answer."""
        ...

    @property
    def special_ids(self) -> Mapping[str, int | None]:
        """The tokenizer's own ids of ``bos``, ``eos`` and ``pad``."""
        ...

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token, added ones included, and its id."""
        ...

    @property
    def markers(self) -> Set[int]:
        """Ids of special tokens that were added to the vocabulary."""
        ...

    @property
    def chats(self) -> bool:
        """Whether ``chat`` works."""
        ...

    @property
    def uses_bos(self) -> bool:
        """Whether BOS is ever written before a text or into a prompt."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """The text of token ids."""
        ...

    def chat(self, user_text: str) -> list[int]:
        """Token ids of one user message."""
        ...


def vocabulary_size(folder: Path) -> int:
    """Rows of the embedding, as ``config.json`` of a checkpoint or a built engine says: token ids lie below it.

    Raises:
        ModelError: it says none.
    """
    path = folder / "config.json"
    config = read_json(path, ModelError, "give the folder of a complete Hugging Face checkpoint, or build again")
    text_config = config.get("text_config")
    nested = text_config.get("vocab_size") if isinstance(text_config, dict) else None
    size = config.get("vocab_size", nested)
    if size is None:
        size = _usual_size(folder)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ModelError(
            f"{path} has vocab_size {size!r}, so nobody can tell which token ids the model knows",
            "set vocab_size to the number of rows of the embedding",
        )
    return size


def _usual_size(folder: Path) -> object:
    """What Transformers takes for the model's type where the configuration leaves it out; None where it knows none."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # of many kinds; that it is unknown is said by the caller
        return None
    return getattr(config.get_text_config(), "vocab_size", None)


def check_files(folder: Path) -> None:
    """Look at what the files alone say, before a library reads them.

    Raises:
        ModelError: there is nothing that a tokenizer could be read from, the embedding's size is unknown, or a special
            token's id is no number or outside the embedding.
    """
    if not any(file.is_file() for pattern in _FILES for file in folder.glob(pattern)):
        raise ModelError(
            f"{folder} has no tokenizer that can be read: none of {', '.join(_FILES)} is there",
            "copy the model's tokenizer files into the folder: tokenizer.json and tokenizer_config.json",
        )
    size = vocabulary_size(folder)
    for role in _ROLES:
        for name, ids in _declared(folder, role).items():
            outside = [index for index in ids if not 0 <= index < size]
            if outside:
                raise ModelError(
                    f"{folder / name}: {role}_token_id {outside[0]} is no token: the vocab_size is {size}",
                    "correct it, or leave it out where the model has no such token",
                )


def end_ids(folder: Path, own: int | None) -> tuple[int, ...]:
    """Every id that ends an answer: those of ``generation_config.json``, else of ``config.json``; then the tokenizer's.

    Raises:
        ModelError: a file names something that is no id.
    """
    return tuple(dict.fromkeys([*declared_ends(folder), *([] if own is None else [own])]))


def declared_ends(folder: Path) -> tuple[int, ...]:
    """The ids that end an answer as ``generation_config.json`` says, else ``config.json``; none where neither does.

    Raises:
        ModelError: a file names something that is no id.
    """
    declared = _declared(folder, "eos")
    return declared["generation_config.json"] or declared["config.json"]


def check_vocabulary(folder: Path, tokenizer: CheckedTokenizer) -> None:
    """Look at a loaded tokenizer and the checkpoint's files, before anything is built or measured with them.

    An embedding larger than the vocabulary is sound: it is padded. So is a marker that was added behind the embedding
    and that neither a role nor the chat template uses, as one for images in a model of text; an engine refuses it.
    Chat is looked at where the model is asked in it and there is a template; that there is none is found where chat is
    first needed.

    Raises:
        ModelError: a token without a row in the embedding; special tokens of one file that another contradicts, or
            that do not exist; no end of an answer; ordinary text that does not come back; a chat template that
            raises, or leaves out what the user says.
    """
    size = vocabulary_size(folder)
    used = tokenizer.vocabulary.items()
    beyond = sorted((index, token) for token, index in used if not 0 <= index < size and index not in tokenizer.markers)
    if beyond:
        index, token = beyond[0]
        raise ModelError(
            f"{folder}: the tokenizer has tokens without a row in the model's embedding: {len(beyond)}, the first is "
            f"{token!r} with id {index}; config.json says vocab_size {size}",
            f"{_ANOTHER}; or resize the embedding, or take tokens that were added later out of the tokenizer's files",
        )
    for role, own in tokenizer.special_ids.items():
        if own is not None and own >= size:
            raise ModelError(
                f"{folder}: the tokenizer's {role} token {tokenizer.decode([own], skip_special=False)!r} has id {own}, "
                f"which has no row in the model's embedding; config.json says vocab_size {size}",
                f"{_ANOTHER}; or resize the embedding",
            )
    # Padding may differ: it is masked, and chosen by whoever fine-tuned the model. So may a BOS that nothing writes.
    for role in ("bos", "eos") if tokenizer.uses_bos else ("eos",):
        _check_role(folder, role, tokenizer.special_ids.get(role))
    _check_end(folder, tokenizer)
    _check_sample(folder, tokenizer)
    if tokenizer.chats:
        _check_chat(folder, tokenizer)


def _check_role(folder: Path, role: str, own: int | None) -> None:
    """The tokenizer's own id of a special token is among those that the model's files name, where they name any."""
    declared = _declared(folder, role)
    known = {index for ids in declared.values() for index in ids}
    if own is not None and known and own not in known:
        said = ", ".join(f"{name} {sorted(ids)}" for name, ids in declared.items() if ids)
        raise ModelError(
            f"{folder}: the tokenizer's {role} token has id {own}, but the model's files say {role}_token_id: {said}",
            f"{_ANOTHER}, or correct {role}_token_id",
        )


def _check_end(folder: Path, tokenizer: CheckedTokenizer) -> None:
    if not tokenizer.eos_ids:
        raise ModelError(
            f"{folder} names no token that ends an answer: eos_token_id is in neither generation_config.json nor "
            "config.json, and the tokenizer has no eos_token",
            "write the model's eos_token_id into generation_config.json",
        )
    own = tokenizer.special_ids.get("eos")
    spelled = next((token for token, index in tokenizer.vocabulary.items() if index == own), None)
    stored = _stored_tokens(folder)
    if spelled is not None and stored is not None and spelled not in stored:
        raise ModelError(
            f"{folder}: the tokenizer's eos_token {spelled!r} is in none of its files' vocabularies, so the model "
            "never learnt it",
            "name the token that the model was trained to end with in tokenizer_config.json",
        )


def _stored_tokens(folder: Path) -> set[str] | None:
    """Tokens that the files themselves hold; None where the vocabulary is in a format that is not read here.

    Transformers adds a special token that the vocabulary lacks behind its end, without a word.
    """
    if not (folder / "tokenizer.json").is_file():
        return None
    content = read_checkpoint_json(folder / "tokenizer.json")
    model = content.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    tokens = {word if isinstance(word, str) else word[0] for word in words or ()}  # pairs with scores, in Unigram
    tokens |= {added["content"] for added in content.get("added_tokens") or ()}
    for name in ("tokenizer_config.json", "added_tokens.json"):
        if (folder / name).is_file():
            more = read_checkpoint_json(folder / name)
            added = more if name == "added_tokens.json" else more.get("added_tokens_decoder") or {}
            tokens |= {value["content"] if isinstance(value, dict) else key for key, value in added.items()}
    return tokens


def _check_sample(folder: Path, tokenizer: CheckedTokenizer) -> None:
    try:
        ids = tokenizer.encode(_SAMPLE)
        text = tokenizer.decode(ids, skip_special=False)
    except Exception as error:  # the libraries raise many kinds, bare Exception among them
        raise ModelError(
            f"{folder}: the tokenizer cannot encode ordinary text: {type(error).__name__}: {error}", _ANOTHER
        ) from error
    if _letters(text) != _letters(_SAMPLE):
        raise ModelError(
            f"{folder}: the tokenizer does not give ordinary text back: {_SAMPLE!r} becomes {text!r}",
            _ANOTHER,
        )


def _check_chat(folder: Path, tokenizer: CheckedTokenizer) -> None:
    ids = tokenizer.chat(_SAMPLE)  # raises ModelError where the template does
    size = vocabulary_size(folder)
    beyond = [index for index in ids if index >= size]
    if beyond:
        raise ModelError(
            f"{folder}: the chat template writes the token {beyond[0]}, which has no row in the model's embedding",
            f"{_ANOTHER}; or resize the embedding",
        )
    text = tokenizer.decode(ids, skip_special=False)
    if _letters(_SAMPLE) not in _letters(text):
        raise ModelError(
            f"{folder}: the chat template leaves out what the user says: {_SAMPLE!r} becomes {text!r}",
            "correct the template, or set quality.plain_prompts for a model never trained to chat",
        )


def _letters(text: str) -> str:
    return "".join(text.split()).casefold()


def _declared(folder: Path, role: str) -> dict[str, tuple[int, ...]]:
    """By file, the ids that it names for a role. -1, which some write for none, is none."""
    found = {}
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        content: Mapping[str, Any] = read_checkpoint_json(path) if path.exists() else {}
        value = content.get(f"{role}_token_id")
        ids = value if isinstance(value, list) else [value]
        if any(index is not None and not _is_id(index) for index in ids):
            raise ModelError(
                f"{path}: {role}_token_id is {value!r}, which is no token id", "write a whole number, or leave it out"
            )
        found[name] = tuple(index for index in ids if index is not None and index != -1)
    return found


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
