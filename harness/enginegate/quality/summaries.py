"""Summaries of articles, scored against summaries that a person wrote."""

from __future__ import annotations

from collections.abc import Sequence

from enginegate.core.records import AnswersEntry, QualityEntry, TextEntry
from enginegate.engines.base import Engine
from enginegate.quality.data import Article
from enginegate.quality.entry import mean_column, quality_entry, require_items
from enginegate.quality.rouge import ROUGE_COLUMNS
from enginegate.quality.scoring import DEFAULT_SCORING, TextScoring
from enginegate.quality.text import Tokenizer, generate_texts, text_entries

REVISION = 1
COLUMNS = (*ROUGE_COLUMNS, "length")


def summary_prompt(article: Article) -> str:
    """The user message that asks for a summary."""
    return f"Summarize the following article in two sentences.\n\n{article.text.strip()}"


def evaluate_summaries(
    engine: Engine,
    tokenizer: Tokenizer,
    articles: Sequence[Article],
    max_tokens: int,
    scoring: TextScoring = DEFAULT_SCORING,
) -> QualityEntry:
    """Summarize every article greedily in at most ``max_tokens`` tokens.

    Returns:
        For each item ROUGE F-measures (0 to 1) and the summary's length in tokens; the scores are their means.
        Ceilings: what the written summaries score against themselves.

    Raises:
        MeasurementError: no articles.
        ConfigError: an article longer than the engine was built for.
    """
    require_items(articles, "summaries")
    prompts = {article.hash: summary_prompt(article) for article in articles}
    answers = generate_texts(engine, tokenizer, prompts, max_tokens)
    items = {
        article.hash: (
            *scoring.rouge(answers[article.hash].text, article.summary),
            float(len(answers[article.hash].token_ids)),
        )
        for article in articles
    }
    scores = {name: mean_column(COLUMNS, items, name) for name in COLUMNS}
    settings = {"max_tokens": max_tokens, **scoring.rouge_settings}
    ceilings = scoring.rouge_ceilings({article.hash: article.summary for article in articles})
    signatures = {"rouge": scoring.signatures["rouge"]}
    written = AnswersEntry(
        prompts=prompts,
        answers=text_entries(tokenizer, answers),
        references={article.hash: TextEntry(text=article.summary) for article in articles},
    )
    return quality_entry(engine, "summaries", REVISION, settings, COLUMNS, items, scores, signatures, ceilings, written)
