"""How close an engine's greedy answers stay to those of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enginegate.core.errors import MeasurementError
from enginegate.core.records import AnswersEntry, QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.bleu import BLEU_COLUMNS, corpus_bleu
from enginegate.quality.data import Prompt
from enginegate.quality.entry import mean_column, quality_entry, require_items
from enginegate.quality.rouge import ROUGE_COLUMNS
from enginegate.quality.scoring import DEFAULT_SCORING, TextScoring
from enginegate.quality.text import Answer, Tokenizer, generate_texts, text_entries

REVISION = 1
COLUMNS = (*BLEU_COLUMNS, *ROUGE_COLUMNS, "exact", "length", "reference_length")


def reference_answers(
    engine: Engine, tokenizer: Tokenizer, prompts: Sequence[Prompt], max_tokens: int
) -> dict[str, Answer]:
    """The greedy answers that other engines are compared with, by item hash; for the caller to keep."""
    return generate_texts(engine, tokenizer, {prompt.hash: prompt.text for prompt in prompts}, max_tokens)


def evaluate_similarity(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    reference: Mapping[str, Answer],
    max_tokens: int,
    scoring: TextScoring = DEFAULT_SCORING,
) -> QualityEntry:
    """Answer every prompt and compare with the reference's answer.

    Args:
        engine: the candidate.
        tokenizer: the model's.
        prompts: the user messages.
        reference: item hash to the reference's answer, generated with the same ``max_tokens``.
        max_tokens: length at which an answer is cut off.
        scoring: how BLEU and ROUGE read a text.

    Returns:
        For each item the counts of BLEU, ROUGE F-measures, whether all tokens are equal, and both lengths in tokens.
        Scores: ``bleu`` (0 to 100, of the corpus), mean ROUGE (0 to 1), ``exact`` (share of equal answers) and
        ``length_ratio`` (tokens of all answers over tokens of all reference answers). Ceilings: of BLEU and ROUGE.

    Raises:
        MeasurementError: no prompts, a prompt that the reference has no answer to, or a reference without a token.
    """
    require_items(prompts, "similarity")
    missing = [prompt.id for prompt in prompts if prompt.hash not in reference]
    if missing:
        raise MeasurementError(
            f"the reference has no answer to {len(missing)} of {len(prompts)} prompts, such as {missing[0]!r}",
            "generate the reference's answers again, with these prompts",
        )
    if not any(reference[prompt.hash].token_ids for prompt in prompts):
        raise MeasurementError(
            "every answer of the reference is empty, so nothing can be similar to it",
            "check the chat template and the end-of-answer tokens",
        )
    answers = reference_answers(engine, tokenizer, prompts, max_tokens)
    items = {key: compare_answers(answer, reference[key], scoring) for key, answer in answers.items()}
    lengths = [row[-2:] for row in items.values()]
    counts = [row[: len(BLEU_COLUMNS)] for row in items.values()]
    scores = {"bleu": corpus_bleu(counts, scoring.bleu_smoothing)}
    scores |= {name: mean_column(COLUMNS, items, name) for name in (*ROUGE_COLUMNS, "exact")}
    scores["length_ratio"] = sum(length for length, _ in lengths) / sum(other for _, other in lengths)
    texts = {key: reference[key].text for key in answers}
    ceilings = {**scoring.bleu_ceilings(texts), **scoring.rouge_ceilings(texts)}
    settings = {"max_tokens": max_tokens, **scoring.bleu_settings, **scoring.rouge_settings}
    written = AnswersEntry(
        prompts={prompt.hash: prompt.text for prompt in prompts},
        answers=text_entries(tokenizer, answers),
        references=text_entries(tokenizer, {key: reference[key] for key in answers}),
    )
    return quality_entry(
        engine, "similarity", REVISION, settings, COLUMNS, items, scores, scoring.signatures, ceilings, written
    )


def compare_answers(answer: Answer, reference: Answer, scoring: TextScoring = DEFAULT_SCORING) -> tuple[float, ...]:
    """The numbers of one item, in the order of ``COLUMNS``."""
    return (
        *scoring.bleu_counts(answer.text, reference.text),
        *scoring.rouge(answer.text, reference.text),
        float(answer.token_ids == reference.token_ids),
        float(len(answer.token_ids)),
        float(len(reference.token_ids)),
    )
