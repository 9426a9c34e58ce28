"""Multiple choice by likelihood, in the two prompt formats of lm-evaluation-harness.

Letters (its task ``mmlu``; Hendrycks et al., "Measuring massive multitask language understanding", ICLR 2021): the
choices stand in the prompt and the likelihoods of " A" to " D" are compared. Small models are at chance with it.
Cloze (its task ``mmlu_continuation``): the choices are not shown and the likelihoods of their texts are compared,
``acc`` by their sum and ``acc_norm`` by their sum over the number of characters of the choice.

The engine protocol gives the likelihoods of given tokens only, so a question takes a sequence for each choice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from enginegate.core.errors import ConfigError
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.data import Question
from enginegate.quality.entry import digest, mean_column, quality_entry, require_items, standard_error
from enginegate.quality.text import Tokenizer, score_sequences

REVISION = 1
COLUMNS = ("acc", "acc_norm", "chosen", "chosen_norm", "margin", "margin_norm")


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
        letter, because a model too small for this format gives one letter to every question.
    """
    require_items(questions, "letters")
    asked = {question.hash: (letters_prompt(question, examples), tuple(question.letters)) for question in questions}
    items = _choose(engine, tokenizer, questions, asked, prefix)
    chance = max(Counter(question.answer for question in questions).values()) / len(questions)
    settings = {"examples": digest([example.hash for example in examples]), "prefix": digest(prefix)}
    scores = _scores(questions, items, "acc", chance)
    return quality_entry(engine, "letters", REVISION, settings, COLUMNS, items, scores)


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
        For each item whether the choice is right (``acc``, ``acc_norm``), the index chosen, and the margin: the
        log-likelihood of the best choice less that of the second (``_norm``: per character). Scores: ``accuracy`` and
        ``accuracy_norm`` over all questions (micro average), their standard errors, ``accuracy_norm_macro`` (mean
        over subjects, each counting the same), ``accuracy_norm/SUBJECT``, and ``chance``, what guessing
        scores: 0.25 of four choices.

    Raises:
        ConfigError: a choice without a token, or a prompt longer than the engine was built for.
        MeasurementError: no questions.
    """
    require_items(questions, "cloze")
    asked = {question.hash: (cloze_prompt(question, examples), question.choices) for question in questions}
    items = _choose(engine, tokenizer, questions, asked, prefix)
    scores = _scores(questions, items, "acc_norm", fmean(1 / len(question.choices) for question in questions))
    settings: dict[str, object] = {"prefix": digest(prefix)}
    if examples:  # what was accepted before there were any has no word of them
        settings["examples"] = digest([example.hash for example in examples])
    return quality_entry(engine, "cloze", REVISION, settings, COLUMNS, items, scores)


def choice_row(likelihoods: Sequence[float], choices: Sequence[str], answer: int) -> tuple[float, ...]:
    """The numbers of one item, in the order of ``COLUMNS``, from the log-likelihoods of its choices."""
    chosen, margin = _best(likelihoods)
    chosen_norm, margin_norm = _best([value / len(text) for value, text in zip(likelihoods, choices, strict=True)])
    return (chosen == answer, chosen_norm == answer, chosen, chosen_norm, margin, margin_norm)


def _best(values: Sequence[float]) -> tuple[int, float]:
    """Index of the first largest value, and by how much it leads."""
    best = max(range(len(values)), key=values.__getitem__)
    return best, values[best] - max(value for index, value in enumerate(values) if index != best)


def _choose(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    asked: Mapping[str, tuple[str, Sequence[str]]],
    prefix: Sequence[int],
) -> dict[str, tuple[float, ...]]:
    """The numbers of each item, from the prompt and the choices under its hash in ``asked``."""
    sequences: dict[tuple[str, int], list[int]] = {}
    starts: dict[tuple[str, int], int] = {}
    for key, (prompt, choices) in asked.items():
        for index, text in enumerate(choices):
            tokens, start = encode_pair(tokenizer, prompt, f" {text}")
            sequences[key, index] = [*prefix, *tokens]
            starts[key, index] = len(prefix) + start
    scored = score_sequences(engine, tokenizer, sequences)
    # the first token has no score, so that of token i stands at i - 1
    likelihoods = {key: math.fsum(scored[key][starts[key] - 1 :]) for key in sequences}
    rows = {}
    for question in questions:
        _, choices = asked[question.hash]
        values = [likelihoods[question.hash, index] for index in range(len(choices))]
        rows[question.hash] = choice_row(values, choices, question.answer)
    return rows


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
        f"{name}_macro": fmean(by_subject.values()),
        **by_subject,
    }
