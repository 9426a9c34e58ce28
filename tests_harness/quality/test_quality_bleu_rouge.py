import socket
from typing import NoReturn

import numpy as np
import pytest
from enginegate.core.errors import MeasurementError
from enginegate.quality.bleu import BLEU_COLUMNS, corpus_bleu, segment_statistics
from enginegate.quality.rouge import ROUGE_COLUMNS, UnicodeTokenizer, rouge_scores, split_sentences
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

PAIRS = [
    ("The cat sat on the mat, quietly.", "The cat is on the mat; quietly!"),
    ("It costs $3.50 today (or 1,000 yen).", "It costs $3.50 today, or 1,000 yen."),
    ("", "Nothing was said."),
    ("one two", "one two"),
    ("Completely different words here", "no overlap at all exists"),
    ("a a a a a a", "a a b"),
]
texts = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat.", "a", "3.5", "dog,", "&quot;"]), max_size=12).map(
    " ".join
)
corpora = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)
#: Of any script, and above all of those that the tokenizers treat apart.
any_text = st.lists(
    st.one_of(
        st.sampled_from(
            ["渡轮", "老船，", "かな", "カナ", "เรือ", "паром", "Ёж.", "नाव", "naïve", "cafe\u0301", "３.5", "a", " "]
        ),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=3),
    ),
    max_size=8,
).map("".join)


@settings(deadline=None)
@given(corpora)
def test_bleu_from_counts_is_the_corpus_score_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    expected = BLEU().corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    assert corpus_bleu([segment_statistics(*pair) for pair in pairs]) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=3), st.sampled_from(["13a", "intl", "zh", "char"]))
def test_bleu_of_any_text_is_that_of_sacrebleu(pairs: list[tuple[str, str]], tokenizer: str) -> None:
    metric = BLEU(tokenize=tokenizer, force=True)
    expected = metric.corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    assert corpus_bleu([segment_statistics(*pair, tokenizer) for pair in pairs]) == pytest.approx(expected, abs=1e-9)
    for said, wanted in pairs:
        expected = metric.corpus_score([said], [[wanted]]).score
        assert corpus_bleu([segment_statistics(said, wanted, tokenizer)]) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(any_text, any_text, st.sampled_from(["default", "unicode"]))
def test_rouge_of_any_text_is_that_of_rouge_score(said: str, wanted: str, tokenizer: str) -> None:
    """By our words where the tokenizer is ours: rouge-score then gets an ASCII name for each of them."""
    pair = [said, wanted]
    if tokenizer == "unicode":
        names: dict[str, str] = {}
        cut = UnicodeTokenizer().tokenize
        pair = [" ".join(names.setdefault(word, f"word{len(names)}") for word in cut(text)) for text in pair]
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(pair[1], pair[0])
    found = dict(zip(ROUGE_COLUMNS, rouge_scores(said, wanted, tokenizer), strict=True))
    for name, score in expected.items():
        assert found[name] == pytest.approx(score.fmeasure)


@settings(deadline=None)
@given(corpora, st.randoms(use_true_random=False))
def test_bleu_does_not_depend_on_the_order_of_segments(pairs: list[tuple[str, str]], random: object) -> None:
    rows = np.array([segment_statistics(*pair) for pair in pairs])
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert corpus_bleu(rows[order]) == corpus_bleu(rows)


def test_bleu_of_known_corpora() -> None:
    rows = [segment_statistics(*pair) for pair in PAIRS]
    assert corpus_bleu(rows) == pytest.approx(
        BLEU().corpus_score([p for p, _ in PAIRS], [[r for _, r in PAIRS]]).score, abs=1e-9
    )
    assert 0 < corpus_bleu(rows) < 100
    same = "The same five words appear."
    assert corpus_bleu([segment_statistics(same, same)]) == pytest.approx(100)
    assert corpus_bleu([segment_statistics("", "words")]) == 0


def test_counts_of_one_segment() -> None:
    counts = dict(zip(BLEU_COLUMNS, segment_statistics("the cat sat", "the cat ran off"), strict=True))
    assert counts == {
        "correct_1": 2, "correct_2": 1, "correct_3": 0, "correct_4": 0,
        "total_1": 3, "total_2": 2, "total_3": 1, "total_4": 0,
        "sys_len": 3, "ref_len": 4,
    }  # fmt: skip


@pytest.mark.parametrize("statistics", [[], [[1.0] * 9], [1.0] * 10])
def test_bleu_refuses_another_shape(statistics: list[object]) -> None:
    with pytest.raises(MeasurementError, match="shape"):
        corpus_bleu(statistics)


@settings(deadline=None, max_examples=40)
@given(texts, texts)
def test_rouge_is_that_of_rouge_score(prediction: str, reference: str) -> None:
    by_sentence = ["\n".join(split_sentences(text)) for text in (reference, prediction)]
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, prediction)
    expected |= RougeScorer(["rougeLsum"]).score(*by_sentence)
    assert rouge_scores(prediction, reference) == pytest.approx([expected[name].fmeasure for name in ROUGE_COLUMNS])


def test_sentences_matter_to_rouge_lsum_only() -> None:
    prediction, reference = "Rain fell. The dog slept.", "The dog slept. Rain fell."
    scores = dict(zip(ROUGE_COLUMNS, rouge_scores(prediction, reference), strict=True))
    assert scores["rouge1"] == scores["rougeLsum"] == 1
    assert scores["rougeL"] == pytest.approx(3 / 5), "as one sequence only the longer sentence is common"
    assert rouge_scores("", reference) == (0, 0, 0, 0)
    assert rouge_scores("It runs", "It ran") == rouge_scores("It runs", "It run"), "words are not stemmed"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Three?\nFour", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("It rose 3.5 percent. (So they say.) Fine", ["It rose 3.5 percent.", "(So they say.)", "Fine"]),
        ("  \n\n ", []),
        ("No end", ["No end"]),
    ],
)
def test_sentences_are_split_by_one_simple_rule(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_evaluate_metrics_work_alone_and_combined_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> NoReturn:
        raise AssertionError(f"tried to reach the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    import evaluate
    from enginegate.quality.evaluate_metrics import Bleu, Rouge

    predictions, references = [p for p, _ in PAIRS], [r for _, r in PAIRS]
    both = evaluate.combine([Bleu(keep_in_memory=True), Rouge(keep_in_memory=True)])
    result = both.compute(predictions=predictions, references=references)
    expected = np.mean([rouge_scores(*pair) for pair in PAIRS], axis=0)
    assert result == pytest.approx(
        {
            "bleu": BLEU().corpus_score(predictions, [references]).score,
            **dict(zip(ROUGE_COLUMNS, expected, strict=True)),
        }
    )
    # one at a time, and again: nothing of an earlier call may stay behind
    alone = Bleu(keep_in_memory=True)
    for _ in range(2):
        alone.add(prediction="one two three four", reference="one two three four")
        assert alone.compute() == {"bleu": pytest.approx(100)}
