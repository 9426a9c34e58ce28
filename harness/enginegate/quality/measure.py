"""The quality metrics by name, each with the data and sizes that the configuration gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from enginegate.config.loading import Config
from enginegate.core.errors import MeasurementError, edge
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.quality.choice import evaluate_cloze, evaluate_letters
from enginegate.quality.data import load_articles, load_passages, load_prompts, load_questions, take
from enginegate.quality.determinism import evaluate_determinism
from enginegate.quality.entry import digest, with_setting
from enginegate.quality.lm_eval.tasks import TaskRequest, asked_digest, evaluate_task
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.quality.scoring import TextScoring
from enginegate.quality.similarity import evaluate_similarity
from enginegate.quality.summaries import evaluate_summaries
from enginegate.quality.text import Answer, Tokenizer

#: Metrics that need the reference's own greedy answers.
COMPARED = frozenset({"similarity"})
#: Metrics that ask for answers, and so put user messages as ``Tokenizer.chat`` does.
ASKING = frozenset({"similarity", "summaries", "determinism"})
#: Multiple-choice metrics, and the column of right and wrong answers that their accuracy is judged by.
CHOICES = {"letters": "acc", "cloze": "acc_norm"}


def measure_quality(
    metric: str, engine: Engine, tokenizer: Tokenizer, config: Config, answers: Mapping[str, Answer]
) -> QualityEntry:
    """Evaluate one metric on one engine.

    Args:
        metric: a key of METRICS, or a task of lm-evaluation-harness (``lm_eval:TASK``).
        engine: the engine asked.
        tokenizer: the model's.
        config: where the data lie and how much of it is used.
        answers: the quality reference's greedy answers, for the metrics in COMPARED.

    Raises:
        EngineGateError: of whatever family the reason is; MeasurementError where a library raised it.
    """
    problem = f"{metric} of {engine.spec.id} could not be measured"
    with edge(MeasurementError, problem, "look at the data under quality, and at the library that is named"):
        task = TaskRequest.of(config, metric)
        if task is not None:
            return evaluate_task(engine, tokenizer, task, _prefix(tokenizer, config))
        entry = METRICS[metric](engine, tokenizer, config, answers)
    if metric not in ASKING or not tokenizer.opening:
        return entry
    # Only where there is one: results of chat templates, and of models without BOS, are those of before.
    return entry.model_copy(update={"version": with_setting(entry.version, "opening", digest(tokenizer.opening))})


def asked_of(metric: str, tokenizer: Tokenizer, config: Config) -> tuple[str, ...]:
    """What a metric asks besides the data that the configuration names: a digest of a task's documents and prompts."""
    task = TaskRequest.of(config, metric)
    return () if task is None else (asked_digest(task, tokenizer),)


def _similarity(engine: Engine, tokenizer: Tokenizer, config: Config, answers: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    prompts = load_prompts(config.resolve(quality.prompts))
    return evaluate_similarity(engine, tokenizer, prompts, answers, quality.similarity_tokens, _scoring(config))


def _summaries(engine: Engine, tokenizer: Tokenizer, config: Config, _: Mapping[str, Answer]) -> QualityEntry:
    quality = config.file.quality
    articles = load_articles(config.resolve(quality.articles))
    return evaluate_summaries(engine, tokenizer, articles, quality.summary_tokens, _scoring(config))


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


def _scoring(config: Config) -> TextScoring:
    quality = config.file.quality
    return TextScoring(quality.bleu_tokenizer, quality.bleu_smoothing, quality.rouge_tokenizer)


def _prefix(tokenizer: Tokenizer, config: Config) -> list[int]:
    # the model's tokenizer was refused when it was loaded, if it has none and is asked for one
    bos = tokenizer.bos_id if config.file.quality.add_bos else None
    return [] if bos is None else [bos]


METRICS: dict[str, Callable[[Engine, Tokenizer, Config, Mapping[str, Answer]], QualityEntry]] = {
    "similarity": _similarity,
    "summaries": _summaries,
    "letters": _letters,
    "cloze": _cloze,
    "perplexity": _perplexity,
    "determinism": _determinism,
}
