"""The quality metrics by name, each with the data and sizes that the configuration gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from enginegate.config.loading import Config
from enginegate.core.errors import MeasurementError, edge
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Distribution, Engine
from enginegate.quality import sets
from enginegate.quality.choice import evaluate_cloze, evaluate_letters
from enginegate.quality.data import take
from enginegate.quality.determinism import evaluate_determinism
from enginegate.quality.divergence import evaluate_divergence
from enginegate.quality.entry import digest, with_setting
from enginegate.quality.lm_eval.tasks import TaskRequest, asked_digest, evaluate_task
from enginegate.quality.perplexity import Prose, evaluate_perplexity
from enginegate.quality.scoring import TextScoring
from enginegate.quality.similarity import evaluate_similarity
from enginegate.quality.summaries import evaluate_summaries
from enginegate.quality.text import Answer, Tokenizer
from enginegate.quality.ties import CHOICES as CHOICES

#: Metrics that ask for answers, and so put user messages as ``Tokenizer.chat`` does.
ASKING = frozenset({"similarity", "summaries", "determinism"})


@dataclass(frozen=True)
class FromReference:
    """What metrics that compare an engine with the quality reference need of that.

    Attributes:
        engine: its id.
        answers: its greedy answers, by item hash.
        distributions: what it expected in the passages, by item hash.
        floor: mean KL divergence of a second unquantized engine; None where that was not measured.
    """

    engine: str = ""
    answers: Mapping[str, Answer] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    floor: float | None = None


def measure_quality(
    metric: str, engine: Engine, tokenizer: Tokenizer, config: Config, reference: FromReference = FromReference()
) -> dict[str, QualityEntry]:
    """Evaluate one metric on one engine.

    Args:
        metric: a key of METRICS, or a task of lm-evaluation-harness (``lm_eval:TASK``).
        engine: the engine asked.
        tokenizer: the model's.
        config: where the data lie and how much of it is used.
        reference: what the metric needs of the quality reference.

    Returns:
        The metric's entry by its name, and those of others that the same pass gave.

    Raises:
        EngineGateError: of whatever family the reason is; MeasurementError where a library raised it.
    """
    problem = f"{metric} of {engine.spec.id} could not be measured"
    with edge(MeasurementError, problem, "look at the data under quality, and at the library that is named"):
        task = TaskRequest.of(config, metric)
        if task is not None:
            return {metric: evaluate_task(engine, tokenizer, task, _prefix(tokenizer, config))}
        found = METRICS[metric](engine, tokenizer, config, reference)
    entries = found if isinstance(found, dict) else {metric: found}
    entries = {name: sets.with_data(entry, config) for name, entry in entries.items()}
    if metric not in ASKING or not tokenizer.opening:
        return entries
    # Only where there is one: results of chat templates, and of models without BOS, are those of before.
    opening = digest(tokenizer.opening)
    return {
        name: entry.model_copy(update={"version": with_setting(entry.version, "opening", opening)})
        for name, entry in entries.items()
    }


def asked_of(metric: str, tokenizer: Tokenizer, config: Config) -> tuple[str, ...]:
    """What a metric asks besides the data that the configuration names: a digest of a task's documents and prompts."""
    task = TaskRequest.of(config, metric)
    return () if task is None else (asked_digest(task, tokenizer),)


def prose_of(tokenizer: Tokenizer, config: Config) -> Prose:
    """The passages of a configuration, ready to be scored."""
    return Prose.of(tokenizer, sets.passages(config).items, prefix=_prefix(tokenizer, config), metric="divergence")


def _similarity(engine: Engine, tokenizer: Tokenizer, config: Config, reference: FromReference) -> QualityEntry:
    quality = config.file.quality
    prompts = sets.prompts(config).items
    return evaluate_similarity(
        engine, tokenizer, prompts, reference.answers, quality.similarity_tokens, _scoring(config)
    )


def _summaries(engine: Engine, tokenizer: Tokenizer, config: Config, _: FromReference) -> QualityEntry:
    quality = config.file.quality
    articles = sets.articles(config).items
    return evaluate_summaries(engine, tokenizer, articles, quality.summary_tokens, _scoring(config))


def _letters(engine: Engine, tokenizer: Tokenizer, config: Config, _: FromReference) -> QualityEntry:
    data = sets.questions(config)
    questions = take(data.items, config.file.quality.letters_limit)
    return evaluate_letters(engine, tokenizer, questions, data.examples, _prefix(tokenizer, config))


def _cloze(engine: Engine, tokenizer: Tokenizer, config: Config, _: FromReference) -> QualityEntry:
    data = sets.questions(config)
    questions = take(data.items, config.file.quality.question_limit)
    return evaluate_cloze(engine, tokenizer, questions, _prefix(tokenizer, config), data.examples)


def _perplexity(engine: Engine, tokenizer: Tokenizer, config: Config, _: FromReference) -> QualityEntry:
    passages = sets.passages(config).items
    return evaluate_perplexity(engine, tokenizer, passages, prefix=_prefix(tokenizer, config))


def _divergence(
    engine: Engine, tokenizer: Tokenizer, config: Config, reference: FromReference
) -> dict[str, QualityEntry]:
    return evaluate_divergence(
        engine,
        tokenizer,
        prose_of(tokenizer, config),
        reference.distributions,
        reference_id=reference.engine,
        cells=config.file.quality.divergence_cells,
        floor=reference.floor,
    )


def _determinism(engine: Engine, tokenizer: Tokenizer, config: Config, _: FromReference) -> QualityEntry:
    quality = config.file.quality
    prompts = take(sets.prompts(config).items, quality.determinism_prompts)
    return evaluate_determinism(engine, tokenizer, prompts, quality.similarity_tokens)


def _scoring(config: Config) -> TextScoring:
    quality = config.file.quality
    return TextScoring(quality.bleu_tokenizer, quality.bleu_smoothing, quality.rouge_tokenizer)


def _prefix(tokenizer: Tokenizer, config: Config) -> list[int]:
    # the model's tokenizer was refused when it was loaded, if it has none and is asked for one
    bos = tokenizer.bos_id if config.file.quality.add_bos else None
    return [] if bos is None else [bos]


METRICS: dict[str, Callable[[Engine, Tokenizer, Config, FromReference], QualityEntry | dict[str, QualityEntry]]] = {
    "similarity": _similarity,
    "summaries": _summaries,
    "letters": _letters,
    "cloze": _cloze,
    "perplexity": _perplexity,
    "divergence": _divergence,
    "determinism": _determinism,
}
