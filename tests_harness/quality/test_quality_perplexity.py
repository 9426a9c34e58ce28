import json
import math
import string
from collections.abc import Sequence

import pytest
from enginegate.core.errors import ConfigError, MeasurementError
from enginegate.models.bpe import write_tokenizer
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality.data import Passage
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.quality.text import bytes_spelled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quality_fakes import FakeEngine, Tokens, WordTokenizer


@pytest.fixture(scope="module")
def bytes_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A token for each byte, and no more."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("bytes")
    tokens = ["<end>", *sorted(ByteLevel.alphabet())]
    special = {"eos": 0}
    write_tokenizer(
        folder,
        tokens=tokens,
        merges=[],
        control_ids=[0],
        special_ids=special,
        split_digits=False,
        chat_template="",
        max_length=64,
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(tokens)}))
    return Tokenizer.load(folder)


def passage(text: str) -> Passage:
    return Passage(id=text[:6], topic="t", text=text)


def test_a_uniform_engine_has_the_size_of_its_vocabulary() -> None:
    engine = FakeEngine(logprob=lambda _before, _token: -math.log(50))
    entry = evaluate_perplexity(engine, WordTokenizer(), [passage("a b c d"), passage("one two")], prefill=1)
    assert entry.scores["perplexity"] == pytest.approx(50)
    assert entry.scores["tokens"] == 3 + 1


def test_a_bigram_engine_has_the_perplexity_of_its_table() -> None:
    tokenizer = WordTokenizer()
    table = {
        (tokenizer.encode(before)[0], tokenizer.encode(after)[0]): probability
        for before, after, probability in (("so", " la", 0.5), (" la", " la", 0.25), (" la", " ti", 0.125))
    }

    def logprob(before: Tokens, token: int) -> float:
        return math.log(table[before[-1], token])

    passages = [passage("so la ti"), passage("so la la la ti")]
    entry = evaluate_perplexity(FakeEngine(logprob=logprob), tokenizer, passages, prefill=2)
    bits = {passages[0].hash: 1 + 3, passages[1].hash: 1 + 2 + 2 + 3}
    for key, value in bits.items():
        nll, tokens, size = entry.items[key]
        assert nll == pytest.approx(value * math.log(2))
        assert (tokens, size) == ((2, 6) if key == passages[0].hash else (4, 12)), "the first token is given"
    assert entry.scores["perplexity"] == pytest.approx(2 ** (12 / 6)), "pooled over tokens, not a mean of passages"
    assert entry.scores["bits_per_byte"] == pytest.approx(12 / 18)


def test_with_a_prefix_every_token_of_the_passage_is_scored() -> None:
    tokenizer = WordTokenizer()
    engine = FakeEngine(logprob=lambda before, _token: -1.0 if len(before) > 1 else -100.0)
    text = passage("été à la mer")
    entry = evaluate_perplexity(engine, tokenizer, [text], prefill=3, prefix=[7, 8])
    assert entry.items[text.hash] == [4, 4, len(text.text.encode())]
    assert engine.scored == [[(7, 8, *tokenizer.encode(text.text))]]


@given(text=st.text(min_size=1))
@example(text="a\ufffd中\ufffd")
@example(text="🙂\ufffd\ufffd")
def test_bytes_are_those_of_the_text_wherever_it_is_cut(bytes_tokenizer: Tokenizer, text: str) -> None:
    tokens = bytes_tokenizer.encode(text)  # one for each byte
    counted = [bytes_spelled(bytes_tokenizer, text, tokens, count) for count in range(len(tokens) + 1)]
    assert counted == list(range(len(text.encode()) + 1))


class FallbackTokenizer:
    """As of Llama 2: letters and a sign for the space, all else as one token for each byte, ``<0xF0>``."""

    eos_ids = frozenset[int]()
    opening = ()
    bos_id = None

    def __init__(self) -> None:
        from tokenizers import Tokenizer as Words
        from tokenizers import decoders, models, normalizers

        tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.ascii_lowercase]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        self._words = Words(models.BPE(vocabulary, [], byte_fallback=True))
        self._words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        self._words.decoder = decoders.Sequence(parts)

    def encode(self, text: str) -> list[int]:
        return list(self._words.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._words.decode(list(ids)))

    def chat(self, user_text: str) -> list[int]:
        return self.encode(user_text)


@settings(deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("ab 🙂中é\ufffd"), st.characters(codec="utf-8")), min_size=1))
@example(text="ab🙂🙂cd")
@example(text="🙂\ufffd\ufffd c")
@example(text="\ufffd🙂")
def test_bytes_that_are_tokens_of_their_own_are_counted_wherever_they_are_cut(text: str) -> None:
    text = text.replace("▁", "_")
    tokenizer = FallbackTokenizer()
    tokens = tokenizer.encode(text)  # the sign for a space, then one for each byte
    assert len(tokens) == 1 + len(text.encode())
    counted = [bytes_spelled(tokenizer, text, tokens, count) for count in range(1, len(tokens) + 1)]
    assert counted == list(range(len(text.encode()) + 1))


def test_tokens_of_several_bytes_are_counted_where_they_cut_two_characters() -> None:
    parts = [b"\xe4\xb8", b"\xad\xe6\x96", b"\x87", b" ab", b"\xf0\x9f", b"\x99\x82\xc3", b"\xa9"]

    class Parts(FallbackTokenizer):
        def decode(self, ids: Sequence[int]) -> str:
            return b"".join(parts[index] for index in ids).decode("utf-8", errors="replace")

    text = b"".join(parts).decode()
    counted = [bytes_spelled(Parts(), text, range(len(parts)), count) for count in range(len(parts) + 1)]
    assert counted == [sum(map(len, parts[:count])) for count in range(len(parts) + 1)]


@pytest.mark.parametrize(("text", "revision"), [("abc", 1), ("é", 2), ("中文", 2)])
def test_results_that_counted_otherwise_before_have_another_version(
    bytes_tokenizer: Tokenizer, text: str, revision: int
) -> None:
    entry = evaluate_perplexity(FakeEngine(), bytes_tokenizer, [passage("abc"), passage(f"{text} ")], prefill=1)
    assert entry.version.startswith(f"perplexity/{revision};")
    assert entry.items[passage(f"{text} ").hash][2] == len(text.encode())


def test_with_a_prefix_no_byte_is_given_and_no_version_changes(bytes_tokenizer: Tokenizer) -> None:
    entry = evaluate_perplexity(FakeEngine(), bytes_tokenizer, [passage("中文")], prefill=1, prefix=[1])
    assert entry.version.startswith("perplexity/1;")
    assert entry.scores["tokens"] == 6


def test_most_tokens_are_decode_steps_shortest_passages_first() -> None:
    tokenizer = WordTokenizer()
    passages = [passage(f"{'w ' * length}end{length}") for length in (40, 20, 41, 21, 60)]
    engine = FakeEngine(max_batch_size=2)
    entry = evaluate_perplexity(engine, tokenizer, passages)
    assert engine.prefills == [16]
    assert [[len(sequence) for sequence in batch] for batch in engine.scored] == [[21, 22, 41, 42, 61]]
    assert entry.version.startswith("perplexity/1;prefill=16;prefix=none;items=")


def test_a_passage_that_reaches_no_decode_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="'only t' has 3 tokens, all of which"):
        evaluate_perplexity(FakeEngine(), WordTokenizer(), [passage("only three words")], prefill=3)


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_likelihoods_that_are_not_finite_are_refused(value: float) -> None:
    engine = FakeEngine(logprob=lambda _before, _token: value)
    with pytest.raises(MeasurementError, match="not finite, in the text that ends in 'a b c'"):
        evaluate_perplexity(engine, WordTokenizer(), [passage("a b c")], prefill=1)


def test_an_engine_that_skips_tokens_is_refused() -> None:
    engine = FakeEngine()
    engine.score = lambda sequences, *, prefill=None: [(-1.0,)]  # type: ignore[method-assign]
    with pytest.raises(MeasurementError, match="did not score every token"):
        evaluate_perplexity(engine, WordTokenizer(), [passage("a b c")], prefill=1)
