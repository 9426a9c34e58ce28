"""The quality metrics by name, each with the data and sizes that the configuration gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enginegate.config.loading import Config
from enginegate.core.errors import ConfigError, MeasurementError, edge
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.choice import evaluate_cloze, evaluate_letters
from enginegate.quality.data import load_articles, load_passages, load_prompts, load_questions, take
from enginegate.quality.determinism import evaluate_determinism
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.quality.similarity import evaluate_similarity
from enginegate.quality.summaries import evaluate_summaries
from enginegate.quality.text import Answer, Tokenizer

#: Metrics that need the reference's own greedy answers.
COMPARED = frozenset({"similarity"})


def measure_quality(
    metric: str, engine: Engine, tokenizer: Tokenizer, config: Config, answers: Mapping[str, Answer]
) -> QualityEntry:
    """Evaluate one metric on one engine.

    Args:
        metric: a key of METRICS.
        engine: the engine asked.
        tokenizer: the model's.
        config: where the data lie and how much of it is used.
        answers: the quality reference's greedy answers, for the metrics in COMPARED.

    Raises:
        EngineGateError: of whatever family the reason is; MeasurementError where a library raised it.
    """
    problem = f"{metric} of {engine.spec.id} could not be measured"
    with edge(MeasurementError, problem, "look at the data under quality, and at the library that is named"):
        return METRICS[metric](engine, tokenizer, config, answers)


def _similarity(engine: Engine, tokenizer: Tokenizer, config: Config, answers: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    prompts = load_prompts(config.resolve(quality.prompts))
    return evaluate_similarity(engine, tokenizer, prompts, answers, quality.similarity_tokens)


def _summaries(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    return evaluate_summaries(
        engine, tokenizer, load_articles(config.resolve(quality.articles)), quality.summary_tokens
    )


def _letters(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    questions = take(load_questions(config.resolve(quality.questions)), quality.letters_limit)
    return evaluate_letters(engine, tokenizer, questions, prefix=_prefix(tokenizer, config))


def _cloze(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    questions = take(load_questions(config.resolve(quality.questions)), quality.question_limit)
    return evaluate_cloze(engine, tokenizer, questions, prefix=_prefix(tokenizer, config))


def _perplexity(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    passages = load_passages(config.resolve(config.file.quality.passages))
    return evaluate_perplexity(engine, tokenizer, passages, prefix=_prefix(tokenizer, config))


def _determinism(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    prompts = take(load_prompts(config.resolve(quality.prompts)), quality.determinism_prompts)
    return evaluate_determinism(engine, tokenizer, prompts, quality.similarity_tokens)


def _prefix(tokenizer: Tokenizer, config: Config) -> list[int]:
    if not config.file.quality.add_bos:
        return []
    if tokenizer.bos_id is None:
        raise ConfigError(
            f"{config.path}: quality.add_bos is set, but the tokenizer of {config.name} has no BOS token", "take it out"
        )
    return [tokenizer.bos_id]


METRICS: dict[str, Callable[[Engine, Tokenizer, Config, Mapping[str, Answer]], QualityEntry]] = {
    "similarity": _similarity,
    "summaries": _summaries,
    "letters": _letters,
    "cloze": _cloze,
    "perplexity": _perplexity,
    "determinism": _determinism,
}
