"""Multiple choice by likelihood, in the two prompt formats of lm-evaluation-harness.

Letters (its task ``mmlu``; Hendrycks et al., "Measuring massive multitask language understanding", ICLR 2021): the
choices stand in the prompt and the likelihoods of " A" to " D" are compared. Small models are at chance with it.
Cloze (its task ``mmlu_continuation``): the choices are not shown and the likelihoods of their texts are compared,
``acc`` by their sum and ``acc_norm`` by their sum over the number of characters of the choice.

Choices that are equally likely share the credit: the right one among k of them counts 1/k, what guessing among them
would score. lm-evaluation-harness takes the first.

The engine protocol gives the likelihoods of given tokens only, so a question takes a sequence for each choice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from enginegate.core.errors import ConfigError
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.data import LETTERS, Question
from enginegate.quality.entry import digest, mean_column, quality_entry, require_items, standard_error
from enginegate.quality.text import Tokenizer, score_sequences
from enginegate.quality.ties import REVISION, REVISION_OF_TIES

COLUMNS = ("acc", "acc_norm", "chosen", "chosen_norm", "margin", "margin_norm", "tied", "tied_norm")
LETTERS_COLUMNS = (*COLUMNS, "acc_calibrated")
#: Decimals of a calibrated log-likelihood: below what any logit resolves, above what taking a mean rounds by.
_CALIBRATED_DECIMALS = 9


def letters_question(question: Question) -> str:
    """The question with its lettered choices, up to where the letter is due."""
    choices = "".join(
        f"{letter}. {choice}\n" for letter, choice in zip(question.letters, question.choices, strict=True)
    )
    return f"{question.question.strip()}\n{choices}Answer:"


def letters_prompt(question: Question, examples: Sequence[Question] = ()) -> str:
    """The whole prompt: a heading, the answered examples of the same subject, and the question."""
    subject = question.subject.replace("_", " ")
    answered = "".join(
        f"{letters_question(example)} {example.letters[example.answer]}\n\n"
        for example in examples
        if example.subject == question.subject
    )
    about = f" about {subject}" if subject else ""
    heading = f"The following are multiple choice questions (with answers){about}.\n\n"
    return heading + answered + letters_question(question)


def cloze_prompt(question: Question, examples: Sequence[Question] = ()) -> str:
    """The question, up to where the text of the answer is due, behind the answered examples of the same subject."""
    answered = "".join(
        f"{cloze_prompt(example)} {example.choices[example.answer]}\n\n"
        for example in examples
        if example.subject == question.subject
    )
    return f"{answered}Question: {question.question.strip()}\nAnswer:"


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Tokens of context and continuation together, and the number of those that are context.

    As lm-evaluation-harness does it: white space at the context's end counts to the continuation, the joined text is
    encoded once, and it is cut where the context encoded by itself would end.

    Raises:
        ConfigError: the continuation is blank or has no token of its own.
    """
    body = context.rstrip()
    whole = tokenizer.encode(context + continuation)
    start = len(tokenizer.encode(body))
    if start >= len(whole) or not continuation.strip():
        raise ConfigError(
            f"the choice {continuation!r} adds no token to the prompt that ends in {context[-40:]!r}",
            "give every choice a text that the tokenizer can tell from nothing",
        )
    return whole, start


def evaluate_letters(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    examples: Sequence[Question] = (),
    prefix: Sequence[int] = (),
) -> QualityEntry:
    """Choose by the likelihood of the letter.

    Args:
        engine: the engine asked.
        tokenizer: the model's.
        questions: what is asked.
        examples: answered questions; a prompt shows those of its subject, in their order (MMLU's ``dev``: five-shot).
        prefix: tokens in front of every prompt, such as the BOS that Llama was trained with.

    Returns:
        As ``evaluate_cloze``, with these differences: ``acc_norm`` equals ``acc``, as every letter is one character
        long; the accuracies of the subjects are of ``acc``; and ``chance`` is the share of the most frequent right
        letter, because a model too small for this format gives one letter to every question. Also ``chosen/A`` to
        ``chosen/D``, the share of questions that each letter is the answer to, and ``accuracy_calibrated`` (by item
        ``acc_calibrated``), where each letter's mean log-likelihood over all questions is taken off before they are
        compared: what a model knows that likes one letter best. It needs no right answers.
    """
    require_items(questions, "letters")
    asked = {question.hash: (letters_prompt(question, examples), tuple(question.letters)) for question in questions}
    likelihoods = _likelihoods(engine, tokenizer, asked, prefix)
    plain = _rows(questions, asked, likelihoods)
    known = calibrated(likelihoods)
    items = {
        question.hash: (*plain[question.hash], _answer(known[question.hash], question.answer).credit)
        for question in questions
    }
    chance = max(Counter(question.answer for question in questions).values()) / len(questions)
    settings = {"examples": digest([example.hash for example in examples]), "prefix": digest(prefix)}
    scores = {
        **_scores(questions, plain, "acc", chance),
        "accuracy_calibrated": mean_column(LETTERS_COLUMNS, items, "acc_calibrated"),
        **_chosen(likelihoods.values()),
    }
    return quality_entry(engine, "letters", _revision(plain), settings, LETTERS_COLUMNS, items, scores)


def evaluate_cloze(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    prefix: Sequence[int] = (),
    examples: Sequence[Question] = (),
) -> QualityEntry:
    """Choose by the likelihood of the answer's text.

    Args:
        engine: the engine asked.
        tokenizer: the model's.
        questions: what is asked.
        prefix: tokens in front of every prompt, such as the BOS that Llama was trained with.
        examples: answered questions; a prompt shows those of its subject, in their order.

    Returns:
        For each item the credit (``acc``, ``acc_norm``): 1 where the choice is right, 1/k where it is one of k that
        are equally likely; the index chosen, the first of those; the margin, the log-likelihood of the best choice
        less that of the second (``_norm``: per character); and which choices are best (see ``ties.TIED``). Scores:
        ``accuracy`` and ``accuracy_norm`` over all questions (micro average), their standard errors,
        ``accuracy_norm_macro`` (mean over subjects, each counting the same), ``accuracy_norm/SUBJECT``, ``ties``, the
        share of questions with several best choices (by ``acc_norm``; letters by ``acc``), and ``chance``, what
        guessing scores: 0.25 of four choices.

    Raises:
        ConfigError: a choice without a token, or a prompt longer than the engine was built for.
        MeasurementError: no questions.
    """
    require_items(questions, "cloze")
    asked = {question.hash: (cloze_prompt(question, examples), question.choices) for question in questions}
    items = _rows(questions, asked, _likelihoods(engine, tokenizer, asked, prefix))
    scores = _scores(questions, items, "acc_norm", fmean(1 / len(question.choices) for question in questions))
    settings: dict[str, object] = {"prefix": digest(prefix)}
    if examples:  # what was accepted before there were any has no word of them
        settings["examples"] = digest([example.hash for example in examples])
    return quality_entry(engine, "cloze", _revision(items), settings, COLUMNS, items, scores)


def choice_row(likelihoods: Sequence[float], choices: Sequence[str], answer: int) -> tuple[float, ...]:
    """The numbers of one item, in the order of ``COLUMNS``, from the log-likelihoods of its choices."""
    plain = _answer(likelihoods, answer)
    norm = _answer([value / len(text) for value, text in zip(likelihoods, choices, strict=True)], answer)
    return (
        plain.credit,
        norm.credit,
        plain.best[0],
        norm.best[0],
        plain.margin,
        norm.margin,
        sum(2**index for index in plain.best),
        sum(2**index for index in norm.best),
    )


def calibrated(likelihoods: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The log-likelihoods of each item, less what each choice has on average over all items that have it."""
    columns: dict[int, list[float]] = defaultdict(list)
    for values in likelihoods.values():
        for place, value in enumerate(values):
            columns[place].append(value)
    means = {place: fmean(column) for place, column in columns.items()}
    return {
        key: [round(value - means[place], _CALIBRATED_DECIMALS) for place, value in enumerate(values)]
        for key, values in likelihoods.items()
    }


@dataclass(frozen=True)
class _Answer:
    """Indices of the choices that are likeliest, by how much the first leads the second, and the credit."""

    best: tuple[int, ...]
    margin: float
    credit: float


def _answer(values: Sequence[float], right: int) -> _Answer:
    first, second = sorted(values, reverse=True)[:2]
    best = tuple(index for index, value in enumerate(values) if value == first)
    return _Answer(best, first - second, (right in best) / len(best))


def _likelihoods(
    engine: Engine, tokenizer: Tokenizer, asked: Mapping[str, tuple[str, Sequence[str]]], prefix: Sequence[int]
) -> dict[str, list[float]]:
    """The log-likelihood of each choice, from the prompt and the choices under an item's hash in ``asked``."""
    sequences: dict[tuple[str, int], list[int]] = {}
    starts: dict[tuple[str, int], int] = {}
    for key, (prompt, choices) in asked.items():
        for index, text in enumerate(choices):
            tokens, start = encode_pair(tokenizer, prompt, f" {text}")
            sequences[key, index] = [*prefix, *tokens]
            starts[key, index] = len(prefix) + start
    scored = score_sequences(engine, tokenizer, sequences)
    # the first token has no score, so that of token i stands at i - 1
    found = {key: math.fsum(scored[key][starts[key] - 1 :]) for key in sequences}
    return {key: [found[key, index] for index in range(len(choices))] for key, (_, choices) in asked.items()}


def _rows(
    questions: Sequence[Question],
    asked: Mapping[str, tuple[str, Sequence[str]]],
    likelihoods: Mapping[str, Sequence[float]],
) -> dict[str, tuple[float, ...]]:
    """The numbers of each item, by its hash."""
    return {
        question.hash: choice_row(likelihoods[question.hash], asked[question.hash][1], question.answer)
        for question in questions
    }


def _revision(items: Mapping[str, Sequence[float]]) -> int:
    tied = any(row[COLUMNS.index(name)] == 0 for row in items.values() for name in ("margin", "margin_norm"))
    return REVISION_OF_TIES if tied else REVISION


def _chosen(likelihoods: Collection[Sequence[float]]) -> dict[str, float]:
    """``chosen/A`` to ``chosen/D``: the share of questions that each letter is the answer to, ties in equal parts."""
    answers = [_answer(values, 0).best for values in likelihoods]
    return {
        f"chosen/{letter}": fmean((index in best) / len(best) for best in answers)
        for index, letter in enumerate(LETTERS[: max(map(len, likelihoods))])
    }


def _scores(
    questions: Sequence[Question], items: Mapping[str, Sequence[float]], main: str, chance: float
) -> dict[str, float]:
    index = COLUMNS.index(main)
    subjects: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        subjects[question.subject].append(items[question.hash][index])
    name = main.replace("acc", "accuracy")
    by_subject = {f"{name}/{subject}": fmean(subjects[subject]) for subject in sorted(subjects)}
    return {
        "accuracy": mean_column(COLUMNS, items, "acc"),
        "accuracy_norm": mean_column(COLUMNS, items, "acc_norm"),
        "stderr": standard_error([row[0] for row in items.values()]),
        "stderr_norm": standard_error([row[1] for row in items.values()]),
        "chance": chance,
        "ties": fmean(row[COLUMNS.index(main.replace("acc", "margin"))] == 0 for row in items.values()),
        f"{name}_macro": fmean(by_subject.values()),
        **by_subject,
    }
