"""From the vocabulary in a GGUF file to a tokenizer in Hugging Face's files.

Two kinds are known. ``gpt2`` is BPE over bytes; how it cuts a text into words first is named by the file
(``tokenizer.ggml.pre``) and written in llama.cpp. ``llama`` is SentencePiece's BPE, whose file holds no merges: they
follow from the scores. A guess would change the tokens, so whatever else is named is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.models.bpe import save_tokenizer
from enginegate.models.gguf_families import Family
from enginegate.models.gguf_file import USE_ANOTHER, GgufFile

#: The format's token types: markers; tokens that are matched whole as markers are, and are text; places left empty.
_NORMAL, _CONTROL, _OWN, _UNUSED = 1, 3, 4, 5
_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
_SPACE = "▁"

#: Words of GPT-4's kind of tokenizer, up to so many digits together, in the tokenizers library's regular expressions.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Splitting:
    """How a byte-level BPE cuts a text into words.

    Attributes:
        words: regular expression of a word; empty for GPT-2's own.
        digits: cut digits apart first.
        composed: bring letters and their accents together first (NFC).
        whole: a word that is a token is taken whole, even where no merges lead to it.
        bos: BOS is put before a text, where the file does not say.
    """

    words: str = ""
    digits: bool = False
    composed: bool = False
    whole: bool = False
    bos: bool = False


#: By ``tokenizer.ggml.pre``.
_SPLITTING: Mapping[str, _Splitting] = {
    "gpt-2": _Splitting(),
    "smollm": _Splitting(digits=True),
    "qwen2": _Splitting(_WORDS % "", composed=True),
    "llama-bpe": _Splitting(_WORDS % "{1,3}", whole=True, bos=True),
}


@dataclass(frozen=True)
class Specials:
    """Tokens that have a role.

    Attributes:
        ids: by ``bos``, ``eos``, ``pad`` and ``unk``, as the file says; those that it does not name are not there.
        ends: ids that end an answer, the file's own first.
    """

    ids: Mapping[str, int]
    ends: tuple[int, ...]


def write_tokenizer_of(file: GgufFile, family: Family, folder: Path) -> Specials:
    """Write the tokenizer's files into ``folder``; the tokens that have a role.

    Raises:
        ModelError: the kind of tokenizer or its way to cut words is not known here, or its parts contradict each other.
    """
    kind = file.text("tokenizer.ggml.model")
    make: Callable[[GgufFile, Sequence[str], Sequence[int], Specials], Any]
    if kind == "gpt2":
        make = _byte_level
    elif kind == "llama":
        make = _sentencepiece
    else:
        raise ModelError(
            f"{file.path}: the tokenizer {kind!r} is not known here (gpt2 and llama are), and a guess would change the "
            "tokens",
            USE_ANOTHER,
        )
    tokens, kinds = file.items("tokenizer.ggml.tokens", str), file.items("tokenizer.ggml.token_type", int)
    if kind == "llama" and len(kinds) == len(tokens):
        tokens = [token.replace(_SPACE, " ") if k == _OWN else token for token, k in zip(tokens, kinds, strict=True)]
    if len(set(tokens)) != len(tokens) or len(kinds) != len(tokens):
        raise ModelError(
            f"{file.path}: {len(tokens)} tokens, of which {len(set(tokens))} differ, have {len(kinds)} types",
            "fetch it again, or use another file",
        )
    specials = _specials(file, family, tokens, kinds)
    template = file.text("tokenizer.chat_template") if file.get("tokenizer.chat_template") is not None else ""
    roles = {role: tokens[i] for role, i in specials.ids.items() if role != "bos" or family.begins}
    try:
        tokenizer = make(file, tokens, kinds, specials)
        _add_markers(tokenizer, tokens, kinds, family)
        save_tokenizer(
            folder, tokenizer, roles=roles, chat_template=template, max_length=file.integer(".context_length")
        )
    except ModelError:
        raise
    except Exception as error:  # a bare Exception for a merge of unknown tokens, a ValueError for one that is no pair
        raise ModelError(
            f"{file.path}: no tokenizer can be made of its tokens and merges: {type(error).__name__}: {error}",
            "fetch it again, or use another file",
        ) from error
    return specials


def _specials(file: GgufFile, family: Family, tokens: Sequence[str], kinds: Sequence[int]) -> Specials:
    ids = {
        role: file.integer(f"tokenizer.ggml.{name}_token_id", least=0)
        for role, name in _ROLES.items()
        if file.get(f"tokenizer.ggml.{name}_token_id") is not None
    }
    more = [
        file.integer(f"tokenizer.ggml.{name}_token_id", least=0)
        for name in ("eot", "eom")
        if file.get(f"tokenizer.ggml.{name}_token_id") is not None
    ]
    outside = {index for index in (*ids.values(), *more) if index >= len(tokens)}
    if outside:
        raise ModelError(
            f"{file.path}: its special tokens have ids {sorted(outside)}, but there are {len(tokens)} tokens",
            "fetch it again, or use another file",
        )
    named = {token: i for i, token in enumerate(tokens) if kinds[i] in (_CONTROL, _OWN)}
    ends = [*([ids["eos"]] if "eos" in ids else []), *more, *(named[end] for end in family.ends if end in named)]
    return Specials(ids, tuple(dict.fromkeys(ends)))


def _byte_level(file: GgufFile, tokens: Sequence[str], kinds: Sequence[int], specials: Specials) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    name = file.text("tokenizer.ggml.pre")
    if name not in _SPLITTING:
        raise ModelError(
            f"{file.path}: the pre-tokenizer {name!r} is not known here ({', '.join(sorted(_SPLITTING))} are), and a "
            "guess would change the tokens",
            USE_ANOTHER,
        )
    splitting = _SPLITTING[name]
    merges = [(first, second) for first, second in (m.split(" ") for m in file.items("tokenizer.ggml.merges", str))]
    vocabulary = {token: i for i, token in enumerate(tokens) if kinds[i] != _UNUSED}
    whole = {"ignore_merges": True} if splitting.whole else {}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **whole))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if splitting.digits else []
    if splitting.words:
        steps.append(pre_tokenizers.Split(Regex(splitting.words), behavior="isolated", invert=False))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not splitting.words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    if splitting.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    _begin(tokenizer, file, tokens, specials, usual=splitting.bos)
    return tokenizer


def _sentencepiece(file: GgufFile, tokens: Sequence[str], kinds: Sequence[int], specials: Specials) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = file.items("tokenizer.ggml.scores", float)
    if len(scores) != len(tokens):
        raise ModelError(
            f"{file.path}: {len(tokens)} tokens have {len(scores)} scores", "fetch it again, or use another file"
        )
    file.expect("tokenizer.ggml.remove_extra_whitespaces", False)
    file.expect("tokenizer.ggml.add_space_prefix", True, False)
    prefix = bool(file.get("tokenizer.ggml.add_space_prefix", True))
    unknown = tokens[specials.ids["unk"]] if "unk" in specials.ids else None
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges_of({token: i for i, token in enumerate(tokens) if kinds[i] in (_NORMAL, _OWN)}, scores),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    _begin(tokenizer, file, tokens, specials, usual=True)
    return tokenizer


def merges_of(ids: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges of a SentencePiece BPE, the first merged first: every way to cut a token in two, best token first.

    Args:
        ids: tokens that may be merged, and their ids.
        scores: of every id; the highest is merged first.
    """
    found = [
        (-scores[i], ids[token[:cut]], ids[token[cut:]], token[:cut], token[cut:])
        for token, i in ids.items()
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    return [(first, second) for *_, first, second in sorted(found)]


def _begin(tokenizer: Any, file: GgufFile, tokens: Sequence[str], specials: Specials, *, usual: bool) -> None:
    """Put BOS before a text, where the file says so, or says nothing and its kind of tokenizer does."""
    from tokenizers import processors

    file.expect("tokenizer.ggml.add_bos_token", True, False)
    bos = specials.ids.get("bos")
    if bos is not None and file.get("tokenizer.ggml.add_bos_token", usual):
        token = tokens[bos]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"], pair=[token, "$A", token, "$B"], special_tokens=[(token, bos)]
        )


def _add_markers(tokenizer: Any, tokens: Sequence[str], kinds: Sequence[int], family: Family) -> None:
    """Match markers, and tokens of their makers' own, whole in a text; markers alone are left out when decoding."""
    from tokenizers import AddedToken

    def eats(token: str) -> bool:
        return family.eats_space is not None and token not in family.eats_space

    markers = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    own = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _OWN]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=eats(token)) for token in markers]
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in own])
