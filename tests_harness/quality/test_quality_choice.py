import math
from statistics import stdev

import pytest
from enginegate.core.errors import ConfigError, MeasurementError
from enginegate.core.records import QualityEntry
from enginegate.quality.choice import (
    COLUMNS,
    LETTERS_COLUMNS,
    calibrated,
    choice_row,
    cloze_prompt,
    encode_pair,
    evaluate_cloze,
    evaluate_letters,
    letters_prompt,
)
from enginegate.quality.data import Question
from hypothesis import given
from hypothesis import strategies as st
from quality_fakes import FakeEngine, Tokens, WordTokenizer, hashed_logprob

CAPITAL = Question(
    question=" What is the capital of France? ",
    subject="world_capitals",
    choices=("Rome", "Paris", "Madrid", "Bonn am Rhein"),
    answer=1,
)
SUM = Question(question="2 + 2 =", subject="sums", choices=("3", "4", "5", "6"), answer=1)
EXAMPLE = Question(
    question="Capital of Peru?", subject="world_capitals", choices=("Lima", "Ica", "Una", "Oro"), answer=0
)


def columns(row: list[float]) -> dict[str, float]:
    return dict(zip(COLUMNS, row, strict=True))


def letters_row(row: list[float]) -> dict[str, float]:
    return dict(zip(LETTERS_COLUMNS, row, strict=True))


def test_the_letters_prompt_is_that_of_mmlu() -> None:
    assert letters_prompt(CAPITAL) == (
        "The following are multiple choice questions (with answers) about world capitals.\n\n"
        "What is the capital of France?\nA. Rome\nB. Paris\nC. Madrid\nD. Bonn am Rhein\nAnswer:"
    )
    assert letters_prompt(CAPITAL, [SUM, EXAMPLE]) == (
        "The following are multiple choice questions (with answers) about world capitals.\n\n"
        "Capital of Peru?\nA. Lima\nB. Ica\nC. Una\nD. Oro\nAnswer: A\n\n"
        "What is the capital of France?\nA. Rome\nB. Paris\nC. Madrid\nD. Bonn am Rhein\nAnswer:"
    )


def test_the_cloze_prompt_shows_no_choices() -> None:
    assert cloze_prompt(CAPITAL) == "Question: What is the capital of France?\nAnswer:"


def test_letters_are_scored_by_their_own_token_after_the_prompt() -> None:
    tokenizer = WordTokenizer()
    favourite = tokenizer.encode(" B")[0]
    engine = FakeEngine(logprob=lambda _before, token: -0.5 if token == favourite else -2.0)
    entry = evaluate_letters(engine, tokenizer, [CAPITAL, SUM])
    assert entry.engine == "toy-fake-fp32"
    assert entry.metric == "letters"
    asked = {sequence for batch in engine.scored for sequence in batch}
    assert asked == {
        tuple(tokenizer.encode(f"{letters_prompt(question)} {letter}"))
        for question in (CAPITAL, SUM)
        for letter in "ABCD"
    }
    assert letters_row(entry.items[CAPITAL.hash]) == {
        "acc": 1, "acc_norm": 1, "chosen": 1, "chosen_norm": 1, "margin": 1.5, "margin_norm": 1.5,
        "tied": 2, "tied_norm": 2, "acc_calibrated": 0.25,
    }  # fmt: skip
    assert entry.scores["accuracy"] == 1
    assert entry.version.startswith("letters/1;")


def test_sum_and_length_normalized_sum_may_choose_differently() -> None:
    # sums -4, -5, -9, -6.5; per character -1, -1, -1.5, -0.5: the last wins by length
    row = columns(list(choice_row([-4, -5, -9, -6.5], ["Rome", "Paris", "Madrid", "Bonn am Rhein"], answer=3)))
    assert row == {
        "acc": 0, "acc_norm": 1, "chosen": 0, "chosen_norm": 3, "margin": 1, "margin_norm": pytest.approx(0.5),
        "tied": 1, "tied_norm": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("likelihoods", "answer", "credit", "chosen", "tied"),
    [
        ([-2, -2, -3, -3], 0, 1 / 2, 0, 0b0011),
        ([-2, -2, -3, -3], 1, 1 / 2, 0, 0b0011),
        ([-2, -2, -3, -3], 2, 0, 0, 0b0011),
        ([-4, -2, -2, -2], 3, 1 / 3, 1, 0b1110),
        ([-2, -2, -2, -2], 3, 1 / 4, 0, 0b1111),
        ([-2, -1.999999, -2, -2], 1, 1, 1, 0b0010),
    ],
)
def test_choices_that_are_equally_likely_share_the_credit(
    likelihoods: list[float], answer: int, credit: float, chosen: int, tied: int
) -> None:
    row = columns(list(choice_row(likelihoods, ["ab", "cd", "ef", "gh"], answer)))
    assert [row["acc"], row["chosen"], row["tied"]] == [credit, chosen, tied]
    assert [row["acc_norm"], row["chosen_norm"], row["tied_norm"]] == [credit, chosen, tied]
    assert (row["margin"] == 0) == (credit < 1)


def asked(letters: dict[str, float], answers: list[int]) -> QualityEntry:
    """Letters of these log-likelihoods, whatever the question; one question for each right answer."""
    tokenizer = WordTokenizer()
    by_token = {tokenizer.encode(f" {letter}")[0]: value for letter, value in letters.items()}
    engine = FakeEngine(logprob=lambda _before, token: by_token.get(token, -9.0))
    questions = [
        SUM.model_copy(update={"question": f"q{number}", "answer": answer}) for number, answer in enumerate(answers)
    ]
    return evaluate_letters(engine, tokenizer, questions)


def test_ties_and_the_letters_histogram_are_reported() -> None:
    entry = asked({"A": -1.0, "B": -1.0, "C": -3.0, "D": -4.0}, [0, 0, 1, 2])
    assert entry.version.startswith("letters/2;"), "the older revision took the first"
    assert entry.scores["ties"] == 1
    assert entry.scores["accuracy"] == entry.scores["chance"] - 0.125 == 3 / 8
    assert [entry.scores[f"chosen/{letter}"] for letter in "ABCD"] == [0.5, 0.5, 0, 0]
    alone = asked({"A": -1.0, "B": -1.5, "C": -3.0, "D": -4.0}, [0, 0, 1, 2])
    assert (alone.scores["ties"], alone.scores["chosen/A"], alone.scores["accuracy"]) == (0, 1, 0.5)


def test_calibration_finds_what_an_engine_knows_that_likes_one_letter_best() -> None:
    """It always prefers B, but the right letter by 0.5 more than elsewhere: only 8 questions, all of them known."""
    tokenizer = WordTokenizer()
    questions = [SUM.model_copy(update={"question": f"q{n}", "answer": n % 4}) for n in range(8)]
    liking = {" A": -3.0, " B": -1.0, " C": -2.5, " D": -4.0}
    prompts = {tuple(tokenizer.encode(letters_prompt(each))): each.answer for each in questions}
    words = {tokenizer.encode(letter)[0]: index for index, letter in enumerate(liking)}

    def logprob(before: Tokens, token: int) -> float:
        if before not in prompts:
            return -9.0
        return list(liking.values())[words[token]] + 0.5 * (words[token] == prompts[before])

    entry = evaluate_letters(FakeEngine(logprob=logprob), tokenizer, questions)
    assert (entry.scores["accuracy"], entry.scores["chosen/B"]) == (0.25, 1)
    assert entry.scores["accuracy_calibrated"] == 1
    assert {letters_row(row)["acc_calibrated"] for row in entry.items.values()} == {1}


def test_an_engine_that_knows_nothing_is_at_chance_after_calibration() -> None:
    entry = asked({"A": -1.1, "B": -0.7, "C": -3.0, "D": -4.0}, [1, 1, 1, 1, 0, 2, 3])
    assert entry.scores["accuracy"] == pytest.approx(4 / 7)
    assert entry.scores["accuracy_calibrated"] == 0.25, "all four are equally likely then"


@given(st.lists(st.lists(st.integers(-400, 0), min_size=4, max_size=4), min_size=1, max_size=8))
def test_calibrated_likelihoods_have_no_mean(rows: list[list[int]]) -> None:
    items = {f"i{index}": [value / 100 for value in row] for index, row in enumerate(rows)}
    for column in zip(*calibrated(items).values(), strict=True):
        assert math.fsum(column) == pytest.approx(0, abs=1e-8 * len(rows))


def test_cloze_adds_up_the_tokens_of_the_choice_alone() -> None:
    tokenizer = WordTokenizer()
    engine = FakeEngine()
    entry = evaluate_cloze(engine, tokenizer, [CAPITAL])
    context = tuple(tokenizer.encode(cloze_prompt(CAPITAL)))
    sums = []
    for choice in CAPITAL.choices:
        tokens: Tokens = context
        total = 0.0
        for token in tokenizer.encode(f" {choice}"):
            total += hashed_logprob(tokens, token)
            tokens = (*tokens, token)
        sums.append(total)
    best, second = sorted(sums, reverse=True)[:2]
    row = columns(entry.items[CAPITAL.hash])
    assert row["chosen"] == sums.index(best)
    assert row["margin"] == pytest.approx(best - second)


def test_a_prefix_goes_in_front_of_every_prompt_and_into_the_version() -> None:
    tokenizer = WordTokenizer()
    plain, prefixed = (FakeEngine(logprob=lambda before, token: hashed_logprob(before[-1:], token)) for _ in range(2))
    one = evaluate_cloze(plain, tokenizer, [CAPITAL])
    two = evaluate_cloze(prefixed, tokenizer, [CAPITAL], prefix=[7])
    assert [(7, *sequence) for sequence in plain.scored[0]] == prefixed.scored[0]
    assert one.version != two.version
    # these likelihoods depend on one token before, so that a prefix may change no row unless the cut has moved
    assert one.items == two.items


def test_scores_are_micro_and_macro_averages_with_their_error() -> None:
    tokenizer = WordTokenizer()
    four = tokenizer.encode(" 4")[0]
    engine = FakeEngine(logprob=lambda _before, token: -0.1 if token == four else -1.0)
    more = [SUM.model_copy(update={"question": f"{n} + {4 - n} ="}) for n in (0, 1)]
    wrong = CAPITAL.model_copy(update={"choices": ("Rome", "Paris", "Madrid", "Bonn"), "answer": 3})
    scores = evaluate_cloze(engine, tokenizer, [SUM, *more, wrong]).scores
    # of the last question's choices, all of one token, each is as likely as the others
    assert scores["accuracy"] == (3 + 1 / 4) / 4
    # per character: -1/4, -1/5, -1/6, -1/4, so Madrid
    assert scores["accuracy_norm"] == 0.75
    assert scores["accuracy_norm/sums"] == 1
    assert scores["accuracy_norm/world_capitals"] == 0
    assert scores["accuracy_norm_macro"] == 0.5
    assert scores["ties"] == 0, "by their length there is a best one"
    assert scores["stderr"] == pytest.approx(stdev([1, 1, 1, 1 / 4]) / 2)
    assert scores["stderr_norm"] == pytest.approx(math.sqrt((3 * 0.25**2 + 0.75**2) / 3) / 2)
    assert scores["chance"] == 0.25


def test_an_engine_that_always_says_a_is_at_chance_with_letters() -> None:
    tokenizer = WordTokenizer()
    letter = tokenizer.encode(" A")[0]
    engine = FakeEngine(logprob=lambda _before, token: -0.1 if token == letter else -3.0)
    questions = [SUM.model_copy(update={"question": f"q{n}", "answer": n % 4}) for n in range(6)]
    scores = evaluate_letters(engine, tokenizer, questions).scores
    assert scores["accuracy"] == scores["chance"] == pytest.approx(2 / 6)


def test_batches_are_the_same_for_any_order_of_the_questions() -> None:
    tokenizer = WordTokenizer()
    forward, backward = FakeEngine(max_batch_size=3), FakeEngine(max_batch_size=3)
    one = evaluate_cloze(forward, tokenizer, [CAPITAL, SUM, EXAMPLE])
    two = evaluate_cloze(backward, tokenizer, [EXAMPLE, SUM, CAPITAL])
    assert forward.scored == backward.scored
    assert [len(batch) for batch in forward.scored] == [12]
    assert one == two


@given(st.text("ab :\n", min_size=1).filter(str.strip), st.text("ab ", min_size=1).filter(str.strip))
def test_context_and_continuation_cover_the_joined_text(context: str, continuation: str) -> None:
    tokenizer = WordTokenizer()
    try:
        whole, start = encode_pair(tokenizer, context, continuation)
    except ConfigError:
        assert len(tokenizer.encode(context.rstrip())) >= len(tokenizer.encode(context + continuation))
        return
    assert tokenizer.decode(whole) == context + continuation
    assert 0 < start < len(whole)


def test_white_space_at_the_end_of_a_context_counts_to_the_continuation() -> None:
    tokenizer = WordTokenizer()
    assert encode_pair(tokenizer, "Answer: ", "Paris") == encode_pair(tokenizer, "Answer:", " Paris")


def test_what_cannot_be_asked_is_refused() -> None:
    tokenizer = WordTokenizer()
    with pytest.raises(MeasurementError, match="cloze: there are no items"):
        evaluate_cloze(FakeEngine(), tokenizer, [])
    with pytest.raises(MeasurementError, match="more than once"):
        evaluate_cloze(FakeEngine(), tokenizer, [SUM, SUM])
    with pytest.raises(ConfigError, match="adds no token"):
        evaluate_cloze(FakeEngine(), tokenizer, [SUM.model_copy(update={"choices": ("3", "", "5", "6")})])
    with pytest.raises(ConfigError, match=r"longer than the 12 tokens.*\n.*max_input_len"):
        evaluate_letters(FakeEngine(max_input_len=8, max_output_len=4), tokenizer, [SUM])
    with pytest.raises(MeasurementError, match="not finite"):
        evaluate_cloze(FakeEngine(logprob=lambda _before, _token: math.nan), tokenizer, [SUM])
