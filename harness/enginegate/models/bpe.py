"""Writing a tokenizer in Hugging Face's files: a byte-level BPE of its vocabulary and merges, or one made already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_tokenizer(
    folder: Path,
    *,
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    control_ids: Sequence[int],
    special_ids: Mapping[str, int],
    split_digits: bool,
    chat_template: str,
    max_length: int,
) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of a byte-level BPE that adds nothing to what it encodes.

    Args:
        folder: the checkpoint's folder.
        tokens: every token in the order of its id, bytes spelled in GPT-2's printable alphabet.
        merges: pairs of tokens, the first merged first.
        control_ids: ids of tokens that are markers: matched whole in the text and left out when decoding.
        special_ids: id of each role: ``bos``, ``eos``, ``pad``, ``unk``.
        split_digits: every digit is a token of its own.
        chat_template: Jinja template, or empty.
        max_length: the model's longest sequence in tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=list(merges)))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if split_digits
        else byte_level
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(tokens[i], special=True, normalized=False) for i in control_ids])
    roles = {role: tokens[i] for role, i in special_ids.items()}
    save_tokenizer(folder, tokenizer, roles=roles, chat_template=chat_template, max_length=max_length)


def save_tokenizer(
    folder: Path, tokenizer: Any, *, roles: Mapping[str, str], chat_template: str, max_length: int
) -> None:
    """Write a ``tokenizers.Tokenizer`` as ``tokenizer.json``, and ``tokenizer_config.json`` beside it.

    Args:
        folder: the checkpoint's folder.
        tokenizer: what is written.
        roles: token of each role: ``bos``, ``eos``, ``pad``, ``unk``.
        chat_template: Jinja template, or empty.
        max_length: the model's longest sequence in tokens.
    """
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        **{f"{role}_token": token for role, token in sorted(roles.items())},
    }
    if chat_template:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
