"""Tokenizers, special tokens, chat templates and token ids that do not belong to the model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from enginegate.core.specs import EngineSpec, SamplingParams
from enginegate.engines.requests import check_prompts, check_sequences
from enginegate.models.bpe import write_tokenizer
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality.data import Passage
from enginegate.quality.perplexity import evaluate_perplexity
from field_case import Got, attempt, case

MARKERS = ("<pad>", "<s>", "</s>")
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
ROWS = len(MARKERS) + 256
KIND = "measured as if whole"
Keys = dict[str, object]


def write_model(folder: Path, template: str = TEMPLATE, words: Keys | None = None, **config: object) -> Path:
    """A config and a tokenizer of bytes that fit; ``words`` and ``config`` change the tokenizer's and the model's."""
    from tokenizers.pre_tokenizers import ByteLevel

    write_tokenizer(
        folder,
        tokens=[*MARKERS, *sorted(ByteLevel.alphabet())],
        merges=[],
        control_ids=range(len(MARKERS)),
        special_ids={"bos": 1, "eos": 2, "pad": 0},
        split_digits=False,
        chat_template=template,
        max_length=64,
    )
    change(folder / "config.json", {"model_type": "llama", "vocab_size": ROWS, **SPECIAL, **config})
    change(folder / "tokenizer_config.json", words or {})
    return folder


def change(file: Path, keys: Keys) -> None:
    """Set keys of a JSON file; None takes a key out."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept = {key: value for key, value in {**content, **keys}.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def add_marker(folder: Path, text: str) -> None:
    """Add a special token behind the vocabulary, and leave the model as it is."""
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Words

    words = Words.from_file(str(folder / "tokenizer.json"))
    words.add_special_tokens([AddedToken(text, special=True)])
    words.save(str(folder / "tokenizer.json"))


def begin_texts_with_bos(folder: Path) -> None:
    """Have the tokenizer put BOS before every text of its own accord, as Llama's does."""
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    pair = {"Sequence": {"id": "B", "type_id": 1}}
    marker = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    change(
        folder / "tokenizer.json",
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [begin, text],
                "pair": [begin, text, pair],
                "special_tokens": marker,
            }
        },
    )


def load(folder: Path, **options: bool) -> Got:
    """What comes of loading the folder's tokenizer."""
    return attempt(Tokenizer.load, folder, **options)


@case("config.json without tokenizer files", kind=KIND, expected="ModelError", says=("no tokenizer", "tokenizer.json"))
def no_tokenizer_files(folder: Path) -> Got:
    change(folder / "config.json", {"model_type": "llama", "vocab_size": ROWS})
    return load(folder)


@case("tokenizer_config.json without a vocabulary", kind=KIND, expected="ModelError", says=("no tokenizer",))
def no_vocabulary(folder: Path) -> Got:
    (write_model(folder, words={"tokenizer_class": "LlamaTokenizer"}) / "tokenizer.json").unlink()
    return load(folder)


@case("vocab.json of another kind of tokenizer", kind=KIND, expected="ModelError")
def vocabulary_of_another_kind(folder: Path) -> Got:
    (write_model(folder, words={"tokenizer_class": "LlamaTokenizer"}) / "tokenizer.json").unlink()
    change(folder / "vocab.json", {"a": 0, "b": 1})
    return load(folder)


@case("tokenizer that knows no word of a text", kind=KIND, expected="ModelError", says=("The quick brown fox",))
def all_unknown(folder: Path) -> Got:
    from tokenizers import Tokenizer as Words
    from tokenizers.models import WordLevel

    write_model(folder)
    Words(WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>")).save(
        str(folder / "tokenizer.json")
    )
    return load(folder)


@case("tokenizer of 259 tokens, embedding of 200", kind=KIND, expected="ModelError", says=(": 59,", "vocab_size 200"))
def embedding_too_small(folder: Path) -> Got:
    return load(write_model(folder, vocab_size=200))


@case("a token added behind the embedding", kind=KIND, expected="ModelError", says=("'<new>'", "id 259"))
def token_added_behind_the_embedding(folder: Path) -> Got:
    return load(write_model(folder, words={"pad_token": "<new>"}))


@case("a marker for images behind the embedding of a model of text", kind=KIND, expected="accepted")
def marker_that_nothing_uses(folder: Path) -> Got:
    write_model(folder)
    add_marker(folder, "<image>")
    return load(folder)


@case(
    "a chat template that writes a marker behind the embedding",
    kind=KIND,
    expected="ModelError",
    says=("the chat template writes the token 259",),
)
def template_beyond_the_embedding(folder: Path) -> Got:
    write_model(folder)
    add_marker(folder, "<image>")
    change(folder / "tokenizer_config.json", {"chat_template": "<image>{{ messages[0]['content'] }}"})
    return load(folder)


@case("embedding padded to 320 rows", kind=KIND, expected="accepted")
def embedding_padded(folder: Path) -> Got:
    return load(write_model(folder, vocab_size=320))


@case("vocab_size in text_config", kind=KIND, expected="ModelError", says=("200",))
def vocabulary_of_the_text_model(folder: Path) -> Got:
    return load(write_model(folder, vocab_size=None, text_config={"vocab_size": 200}))


@case("vocab_size: many", kind=KIND, expected="ModelError", says=("vocab_size 'many'",))
def vocabulary_is_no_number(folder: Path) -> Got:
    return load(write_model(folder, vocab_size="many"))


@case("no vocab_size, a model type nobody knows", kind=KIND, expected="ModelError", says=("vocab_size None",))
def vocabulary_is_unknown(folder: Path) -> Got:
    return load(write_model(folder, vocab_size=None, model_type="nobody-knows"))


@case("eos_token_id 32000 of 259 tokens", kind=KIND, expected="ModelError", says=("config.json", "eos_token_id 32000"))
def end_beyond_the_vocabulary(folder: Path) -> Got:
    return load(write_model(folder, eos_token_id=32000))


@case("bos_token_id -5", kind=KIND, expected="ModelError", says=("bos_token_id -5",))
def begin_is_negative(folder: Path) -> Got:
    return load(write_model(folder, bos_token_id=-5))


@case("eos_token_id: '</s>'", kind=KIND, expected="ModelError", says=("eos_token_id is '</s>'",))
def end_is_no_number(folder: Path) -> Got:
    return load(write_model(folder, eos_token_id="</s>"))


@case(
    "eos of config.json and tokenizer differ", kind=KIND, expected="ModelError", says=("eos", "id 2", "config.json [7]")
)
def ends_differ(folder: Path) -> Got:
    return load(write_model(folder, eos_token_id=7))


@case(
    "bos of config.json and tokenizer differ", kind=KIND, expected="ModelError", says=("bos", "id 1", "config.json [8]")
)
def begins_differ(folder: Path) -> Got:
    return load(write_model(folder, template=f"{{{{ bos_token }}}}{TEMPLATE}", bos_token_id=8))


@case("the same, and add_bos writes it", kind=KIND, expected="ModelError", says=("bos", "id 1", "config.json [8]"))
def begins_differ_before_texts(folder: Path) -> Got:
    return load(write_model(folder, bos_token_id=8), add_bos=True)


@case("the same, and the tokenizer writes it", kind=KIND, expected="ModelError", says=("bos", "config.json [8]"))
def begins_differ_by_the_tokenizer(folder: Path) -> Got:
    begin_texts_with_bos(write_model(folder, bos_token_id=8))
    return load(folder, plain_prompts=True)


@case("the same, and nothing writes it: plain prompts", kind="sound, and refused", expected="accepted")
def begin_that_no_plain_prompt_has(folder: Path) -> Got:
    return load(write_model(folder, bos_token_id=8), plain_prompts=True)


@case("the same, and nothing writes it: a chat", kind="sound, and refused", expected="accepted")
def begin_that_no_chat_has(folder: Path) -> Got:
    return load(write_model(folder, bos_token_id=8))


@case("several ends, one of them the tokenizer's", kind=KIND, expected="accepted (7, 2)")
def several_ends(folder: Path) -> Got:
    change(write_model(folder, eos_token_id=7) / "generation_config.json", {"eos_token_id": [7, 2]})
    return Got(f"accepted {Tokenizer.load(folder).eos_ids}")


@case("pad_token_id -1, which some write for none", kind=KIND, expected="accepted")
def no_padding(folder: Path) -> Got:
    return load(write_model(folder, pad_token_id=-1))


@case("no end of an answer anywhere", kind=KIND, expected="ModelError", says=("names no token that ends an answer",))
def no_end(folder: Path) -> Got:
    return load(write_model(folder, words={"eos_token": None}, eos_token_id=None))


@case("eos_token that no vocabulary has", kind=KIND, expected="ModelError", says=("'<end>'", "never learnt"))
def end_that_does_not_exist(folder: Path) -> Got:
    return load(write_model(folder, words={"eos_token": "<end>"}, vocab_size=320, eos_token_id=None))


def damaged(folder: Path, **keys: object) -> Got:
    """Files that a library is lenient about, or that another copy of the folder has lost meanwhile."""
    from transformers import AutoTokenizer

    write_model(folder)
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    change(folder / "tokenizer.json", keys)
    with mock.patch.object(AutoTokenizer, "from_pretrained", return_value=words):
        return load(folder)


@case("added_tokens that are texts", kind="boundary", expected="ModelError", says=("tokenizer's files", "fetch"))
def added_tokens_are_texts(folder: Path) -> Got:
    return damaged(folder, added_tokens=["x"])


@case("added_tokens without content", kind="boundary", expected="ModelError", says=("tokenizer's files", "content"))
def added_tokens_without_content(folder: Path) -> Got:
    return damaged(folder, added_tokens=[{"id": 1}])


@case("added_tokens that are a number", kind="boundary", expected="ModelError", says=("tokenizer's files",))
def added_tokens_are_a_number(folder: Path) -> Got:
    return damaged(folder, added_tokens=7)


@case("chat template that raises", kind="boundary", expected="ModelError", says=("tokenizer_config.json", "No system"))
def template_raises(folder: Path) -> Got:
    return load(write_model(folder, template="{{ raise_exception('No system message') }}"))


@case(
    "chat template with a mistake in it", kind="boundary", expected="ModelError", says=("chat_template.jinja", "endfor")
)
def template_cannot_be_read(folder: Path) -> Got:
    write_model(folder, template="")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m }}", encoding="utf-8")
    return load(folder)


@case("chat template that adds a number to a text", kind="boundary", expected="ModelError", says=("TypeError",))
def template_with_a_type_error(folder: Path) -> Got:
    return load(write_model(folder, template="{{ messages[0]['content'] + 1 }}"))


@case("chat template that leaves the question out", kind=KIND, expected="ModelError", says=("leaves out",))
def template_without_the_message(folder: Path) -> Got:
    return load(write_model(folder, template="{{ 'user: hello' }}"))


@case("chat template that raises, plain prompts", kind="boundary", expected="accepted")
def template_is_not_used(folder: Path) -> Got:
    return load(write_model(folder, template="{{ raise_exception('no') }}"), plain_prompts=True)


@case("chat without a template", kind="boundary", expected="ModelError", says=("no chat_template", "plain_prompts"))
def no_template(folder: Path) -> Got:
    return attempt(Tokenizer.load(write_model(folder, template="")).require_chat)


@case("add_bos without a BOS token", kind=KIND, expected="ModelError", says=("quality.add_bos",))
def no_begin(folder: Path) -> Got:
    return load(write_model(folder, words={"bos_token": None}), plain_prompts=True, add_bos=True)


@case("plain prompt with add_bos", kind="scores that cannot see", expected="begins with [1]")
def plain_prompt_begins(folder: Path) -> Got:
    tokenizer = Tokenizer.load(write_model(folder), plain_prompts=True, add_bos=True)
    return Got(f"begins with {tokenizer.chat('Hello')[: -len(tokenizer.encode('Hello'))]}")


@case("plain prompt, tokenizer adds BOS itself", kind="scores that cannot see", expected="begins with [1]")
def plain_prompt_begins_by_itself(folder: Path) -> Got:
    from tokenizers import Tokenizer as Words
    from tokenizers.processors import TemplateProcessing

    words = Words.from_file(str(write_model(folder) / "tokenizer.json"))
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    words.save(str(folder / "tokenizer.json"))
    begins = {
        tuple(tokenizer.chat("Hello")[: -len(tokenizer.encode("Hello"))])
        for tokenizer in (Tokenizer.load(folder, plain_prompts=True, add_bos=add) for add in (True, False))
    }
    return Got(f"begins with {' '.join(str(list(begin)) for begin in begins)}")


@case("plain prompt of a model without BOS", kind="scores that cannot see", expected="begins with []")
def plain_prompt_without_begin(folder: Path) -> Got:
    tokenizer = Tokenizer.load(write_model(folder), plain_prompts=True)
    return Got(f"begins with {tokenizer.chat('Hello')[: -len(tokenizer.encode('Hello'))]}")


SPEC = EngineSpec("toy", "fake", "fp32")


@case("prompt with token id 600 of 512", kind=KIND, expected="EngineError", says=("prompt 1", "id 600", "0 to 511"))
def prompt_beyond_the_embedding(folder: Path) -> Got:
    return attempt(check_prompts, SPEC, [[5, 6], [5, 600, 7]], SamplingParams(4), 512)


@case("prompt with token id -1", kind=KIND, expected="EngineError", says=("id -1",))
def prompt_below_the_embedding(folder: Path) -> Got:
    return attempt(check_prompts, SPEC, [[5, -1]], SamplingParams(4), 512)


@case("scored text whose last token id is 512 of 512", kind=KIND, expected="EngineError", says=("id 512",))
def sequence_beyond_the_embedding(folder: Path) -> Got:
    return attempt(check_sequences, SPEC, [[5, 6, 512]], None, 100, 512)


def score(sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
    """One bit a token, so that bits are counted tokens."""
    return [(-math.log(2),) * (len(sequence) - 1) for sequence in sequences]


@case("perplexity of 中文, a token a byte", kind="scores that cannot see", expected="5 bits in 5 bytes")
def bytes_of_a_cut_character(folder: Path) -> Got:
    return bits_and_bytes(write_model(folder), "中文")


@case("perplexity of 🙂中, bytes as tokens of their own", kind="scores that cannot see", expected="6 bits in 6 bytes")
def bytes_of_a_cut_character_by_fallback(folder: Path) -> Got:
    from tokenizers import Tokenizer as Words
    from tokenizers import decoders, models

    tokens = [*MARKERS, *(f"<0x{byte:02X}>" for byte in range(256))]  # as of Llama 2
    words = Words(models.BPE({token: number for number, token in enumerate(tokens)}, [], byte_fallback=True))
    words.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    words.save(str(write_model(folder) / "tokenizer.json"))
    return bits_and_bytes(folder, "🙂中")


def bits_and_bytes(folder: Path, text: str) -> Got:
    """Of a text of which the first token is given, at one bit a token."""
    engine: Any = SimpleNamespace(spec=SPEC, score=score)
    passage = Passage(id="p", topic="t", text=text)
    entry = evaluate_perplexity(engine, Tokenizer.load(folder), [passage], prefill=1)
    ((nll, _, size),) = entry.items.values()
    return Got(f"{nll / math.log(2):.0f} bits in {size:.0f} bytes")
