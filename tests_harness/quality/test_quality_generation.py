"""Similarity, summaries, determinism, and the versions and refusals that all measurements share."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from enginegate.core.errors import CapabilityError, ConfigError, EngineError, MeasurementError
from enginegate.models.checkpoint import Checkpoint
from enginegate.quality.data import Article, Prompt
from enginegate.quality.determinism import agreement, evaluate_determinism
from enginegate.quality.entry import method_version, refuse_random_weights
from enginegate.quality.rouge import ROUGE_COLUMNS, rouge_scores
from enginegate.quality.similarity import COLUMNS, evaluate_similarity, reference_answers
from enginegate.quality.summaries import evaluate_summaries, summary_prompt
from enginegate.quality.text import Answer, generate_texts, text_entries
from hypothesis import given
from hypothesis import strategies as st
from quality_fakes import END, FakeEngine, Tokens, WordTokenizer, reply

PROMPTS = [Prompt(id=f"p{i}", category="c", text=text) for i, text in enumerate(("Say one", "Say", "Say two words"))]
SAID = {"Say one": "It is one.", "Say": "Nothing much to say here.", "Say two words": "two words"}


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer()


def test_answers_end_before_the_ending_token_and_are_batched_by_length(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(reply(tokenizer, SAID), max_batch_size=2)
    answers = generate_texts(engine, tokenizer, {p.hash: p.text for p in PROMPTS}, max_tokens=20)
    assert [answer.text for answer in answers.values()] == list(SAID.values())
    assert all(END not in answer.token_ids for answer in answers.values())
    assert engine.generated == [
        [tuple(tokenizer.chat("Say")), tuple(tokenizer.chat("Say one"))],
        [tuple(tokenizer.chat("Say two words"))],
    ]
    assert {(p.max_tokens, p.ignore_eos) for p in engine.params} == {(20, False)}


def test_tokens_after_the_ending_token_are_dropped(tokenizer: WordTokenizer) -> None:
    word = tokenizer.encode(" go")[0]
    count = len(tokenizer.chat("x"))

    class RunsOn(FakeEngine):
        def _answer(self, prompt, params, batch_size):  # type: ignore[no-untyped-def]
            answer = super()._answer(prompt, params, batch_size)
            return answer.__class__((*answer.token_ids, word), (*answer.token_times, 9.0), "length")

    engine = RunsOn(lambda tokens, _batch_size: word if len(tokens) == count else END)
    assert generate_texts(engine, tokenizer, {"h": "x"}, max_tokens=5) == {"h": Answer(" go", (word,))}


def test_an_engine_is_not_asked_for_what_it_was_not_built_for(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(max_input_len=6, max_output_len=8)
    with pytest.raises(ConfigError, match=r"of 9 tokens .* built for 1 to 8"):
        generate_texts(engine, tokenizer, {"h": "x"}, max_tokens=9)
    with pytest.raises(ConfigError, match=r"ends in 'user: far too long a text\\nassistant:', is longer than the 6"):
        generate_texts(engine, tokenizer, {"h": "far too long a text"}, max_tokens=8)
    assert engine.generated == []


def test_failed_and_missing_answers_are_errors(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine()
    engine.finish_reason = "error"
    with pytest.raises(EngineError, match=r"ended an answer with an error.*user: x"):
        generate_texts(engine, tokenizer, {"h": "x"}, max_tokens=2)
    engine.generate = lambda prompts, params: []  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="gave 0 answers to 1 prompts"):
        generate_texts(engine, tokenizer, {"h": "x"}, max_tokens=2)


def test_an_engine_is_fully_similar_to_itself(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(reply(tokenizer, SAID))
    reference = reference_answers(engine, tokenizer, PROMPTS, 20)
    entry = evaluate_similarity(engine, tokenizer, PROMPTS, reference, 20)
    assert entry.scores == pytest.approx(
        {"bleu": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1, "rougeLsum": 1, "exact": 1, "length_ratio": 1}
    )
    assert entry.columns == list(COLUMNS)
    assert set(entry.items) == {prompt.hash for prompt in PROMPTS}


def test_a_differing_answer_shows_in_its_own_item(tokenizer: WordTokenizer) -> None:
    reference = reference_answers(FakeEngine(reply(tokenizer, SAID)), tokenizer, PROMPTS, 20)
    other = FakeEngine(reply(tokenizer, {**SAID, "Say one": "It is"}))
    entry = evaluate_similarity(other, tokenizer, PROMPTS, reference, 20)
    rows = {key: dict(zip(COLUMNS, row, strict=True)) for key, row in entry.items.items()}
    changed = rows.pop(PROMPTS[0].hash)
    assert (changed["exact"], changed["length"], changed["reference_length"]) == (0, 2, 4)
    assert (changed["correct_1"], changed["total_1"], changed["sys_len"], changed["ref_len"]) == (2, 2, 2, 4)
    assert [changed[name] for name in ROUGE_COLUMNS] == pytest.approx(rouge_scores("It is", "It is one."))
    assert all(row["exact"] == 1 for row in rows.values())
    assert entry.scores["exact"] == pytest.approx(2 / 3)
    assert entry.scores["length_ratio"] == pytest.approx(10 / 12)
    assert 0 < entry.scores["bleu"] < 100


def test_similarity_needs_a_reference_for_every_prompt(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(reply(tokenizer, SAID))
    reference = reference_answers(engine, tokenizer, PROMPTS[:2], 20)
    with pytest.raises(MeasurementError, match="no answer to 1 of 3 prompts, such as 'p2'"):
        evaluate_similarity(engine, tokenizer, PROMPTS, reference, 20)
    silent = {prompt.hash: Answer("", ()) for prompt in PROMPTS}
    with pytest.raises(MeasurementError, match="every answer of the reference is empty"):
        evaluate_similarity(engine, tokenizer, PROMPTS, silent, 20)


def test_summaries_are_asked_for_and_scored_against_the_written_ones(tokenizer: WordTokenizer) -> None:
    article = Article(id="a1", title="T", text="A ferry sails again. \n", summary="The ferry is back.")
    assert summary_prompt(article) == "Summarize the following article in two sentences.\n\nA ferry sails again."
    engine = FakeEngine(reply(tokenizer, {summary_prompt(article): "A ferry is back."}))
    entry = evaluate_summaries(engine, tokenizer, [article], 16)
    assert entry.metric == "summaries"
    assert entry.items[article.hash] == pytest.approx([*rouge_scores("A ferry is back.", "The ferry is back."), 5])
    assert entry.scores["rouge1"] == pytest.approx(3 / 4)


def test_a_steady_engine_agrees_with_itself(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(reply(tokenizer, SAID), max_batch_size=4)
    entry = evaluate_determinism(engine, tokenizer, PROMPTS, 20)
    assert set(entry.scores.values()) == {1}
    assert [len(batch) for batch in engine.generated] == [1, 1, 1, 1, 1, 1, 3]


def test_an_engine_that_changes_with_the_batch_is_found(tokenizer: WordTokenizer) -> None:
    steady = reply(tokenizer, SAID)
    word = tokenizer.encode(" differs")[0]
    long_prompt = tuple(tokenizer.chat("Say two words"))

    def shifting(tokens: Tokens, batch_size: int) -> int:
        done = len(tokens) - len(long_prompt)
        swerves = batch_size > 1 and tokens[: len(long_prompt)] == long_prompt and done == 1
        return word if swerves else steady(tokens, batch_size)

    entry = evaluate_determinism(FakeEngine(shifting), tokenizer, PROMPTS, 2)
    assert entry.items[PROMPTS[2].hash] == [1, 1, 0, 0.5]
    assert entry.scores == pytest.approx(
        {"repeat_exact": 1, "repeat_prefix": 1, "batch_exact": 2 / 3, "batch_prefix": 2.5 / 3}
    )


def test_an_engine_that_does_not_repeat_itself_is_found(tokenizer: WordTokenizer) -> None:
    words = tokenizer.encode(" a b")
    calls = iter(range(1000))
    # one token per answer: first run a b a, second run b a b, batch a b a
    flaky = FakeEngine(lambda _tokens, _batch_size: words[next(calls) % 2])
    entry = evaluate_determinism(flaky, tokenizer, PROMPTS, 1)
    assert entry.scores == {"repeat_exact": 0, "repeat_prefix": 0, "batch_exact": 1, "batch_prefix": 1}


def test_determinism_needs_batches(tokenizer: WordTokenizer) -> None:
    with pytest.raises(CapabilityError, match="batches of one"):
        evaluate_determinism(FakeEngine(max_batch_size=1), tokenizer, PROMPTS, 4)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((), (), (1, 1)),
        ((1, 2), (1, 2), (1, 1)),
        ((1, 2), (1, 2, 3, 4), (0, 0.5)),
        ((1, 2, 3), (1, 9, 3), (0, 1 / 3)),
        ((5,), (), (0, 0)),
    ],
)
def test_agreement(first: Tokens, second: Tokens, expected: tuple[float, float]) -> None:
    assert agreement(first, second) == agreement(second, first) == pytest.approx(expected)


def test_versions_tell_the_settings_from_the_items(tokenizer: WordTokenizer) -> None:
    engine = FakeEngine(reply(tokenizer, SAID))
    all_items = evaluate_determinism(engine, tokenizer, PROMPTS, 20).version
    fewer = evaluate_determinism(engine, tokenizer, PROMPTS[:2], 20).version
    shorter = evaluate_determinism(engine, tokenizer, PROMPTS, 2).version
    assert all_items == evaluate_determinism(engine, tokenizer, PROMPTS[::-1], 20).version
    assert all_items != fewer
    assert method_version(all_items) == method_version(fewer) == "determinism/1;batch_size=8;max_tokens=20"
    assert method_version(shorter) != method_version(all_items)


def test_answers_are_kept_with_where_their_tokens_end(tokenizer: WordTokenizer) -> None:
    tokens = tokenizer.encode("It is one.")
    (entry,) = text_entries(tokenizer, {"h": Answer("It is one.", tuple(tokens))}).values()
    assert (entry.text, entry.tokens, entry.ends) == ("It is one.", tokens, [2, 5, 9, 10])
    assert text_entries(tokenizer, {"h": Answer("", ())})["h"].ends == []


class Bytes:
    """A tokenizer whose tokens are bytes, so that most end inside a character."""

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


@given(st.text(st.sampled_from("aß☃𝄞"), max_size=6), st.integers(0, 3))
def test_a_token_that_ends_inside_a_character_ends_before_it(text: str, cut: int) -> None:
    ids = tuple(text.encode())
    whole = text_entries(Bytes(), {"h": Answer(text, ids)})["h"].ends
    assert whole == [len(bytes(ids[:count]).decode("utf-8", "ignore")) for count in range(1, len(ids) + 1)]
    short = ids[: len(ids) - cut]  # an answer may be cut off inside a character, too
    spelled = Bytes().decode(short)
    ends = text_entries(Bytes(), {"h": Answer(spelled, short)})["h"].ends
    assert ends == sorted(ends)
    assert ends[-1:] == ([len(spelled)] if short else [])


def test_engines_keep_what_they_wrote_and_what_it_is_compared_with(tokenizer: WordTokenizer) -> None:
    reference = reference_answers(FakeEngine(reply(tokenizer, SAID)), tokenizer, PROMPTS, 20)
    other = FakeEngine(reply(tokenizer, {**SAID, "Say one": "It is"}))
    texts = evaluate_similarity(other, tokenizer, PROMPTS, reference, 20).texts
    assert texts is not None
    assert texts.prompts == {prompt.hash: prompt.text for prompt in PROMPTS}
    assert texts.answers[PROMPTS[0].hash].text == "It is"
    assert texts.references[PROMPTS[0].hash].text == "It is one."
    assert texts.references[PROMPTS[0].hash].tokens == list(reference[PROMPTS[0].hash].token_ids)


def test_random_weights_are_refused() -> None:
    with pytest.raises(CapabilityError, match="random:tiny: its weights are random"):
        refuse_random_weights(Checkpoint(Path(), "d", "random:tiny", random_weights=True))
    refuse_random_weights(Checkpoint(Path(), "d", "path:model"))
