"""A task of lm-evaluation-harness as a quality metric: one row for each document, kept under what was asked."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from enginegate.config.loading import Config
from enginegate.core.errors import CapabilityError, ConfigError, MeasurementError, edge
from enginegate.core.records import QualityEntry
from enginegate.core.spelling import did_you_mean
from enginegate.engines.base import Engine
from enginegate.quality.data import item_hash
from enginegate.quality.entry import digest, quality_entry, standard_error
from enginegate.quality.lm_eval import METRIC
from enginegate.quality.text import Tokenizer

REVISION = 1
#: The score that is judged: the first of these that a task has, else its first score by document.
JUDGED = ("acc_norm", "acc", "exact_match", "nll")
#: What the counts of these scores of whole texts are of; the other number is the text's log-likelihood.
_COUNTED = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
#: The seeds that lm-eval takes by default, for its own generator, numpy's, and few-shot examples.
_SEED, _NUMPY_SEED, _SHOTS_SEED = 0, 1234, 1234

#: The numbers of one document, by column.
Row = dict[str, float]


@dataclass(frozen=True)
class TaskRequest:
    """A task, or a group of tasks, as the configuration asks for it.

    Attributes:
        name: as lm-eval knows it.
        limit: so many documents of each task, the first ones; None for all.
        shots: examples in a prompt; None for as many as the task says.
        folder: where tasks of one's own lie, which come before lm-eval's; None for lm-eval's alone.
        chat: put prompts in the model's chat template.
    """

    name: str
    limit: int | None = None
    shots: int | None = None
    folder: Path | None = None
    chat: bool = False

    @classmethod
    def of(cls, config: Config, metric: str) -> TaskRequest | None:
        """What a metric of this configuration asks for; None for a metric that is no task."""
        if not metric.startswith(METRIC):
            return None
        section = config.file.quality.lm_eval
        folder = None if section.include_path is None else config.resolve(section.include_path)
        name = metric.removeprefix(METRIC)
        return cls(name, section.limit, section.num_fewshot, folder, section.chat_template)

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return f"{METRIC}{self.name}"


def evaluate_task(
    engine: Engine, tokenizer: Tokenizer, request: TaskRequest, prefix: Sequence[int] = ()
) -> QualityEntry:
    """Ask an engine a task's documents, as lm-eval asks and scores them.

    Args:
        engine: the engine asked.
        tokenizer: the model's.
        request: the task.
        prefix: tokens in front of every text, such as BOS.

    Returns:
        For each document the task's scores, the one that is judged first: 1 and 0 for right and wrong, the number
        itself for others (less it, as ``-NAME``, where lower is better), and ``nll`` with the number of ``words`` or
        ``bytes`` for the perplexity of whole texts. A score of several filters is named ``NAME,FILTER``. Scores: their
        means, perplexities, for a group the judged score by task, and ``chance``, what guessing scores.

    Raises:
        CapabilityError: lm-eval is not installed, or the task samples.
        ConfigError: there is no such task, it cannot be loaded, it has no score by document, or the right answer to a
            document is none of its choices.
        MeasurementError: a score that is not finite.
    """
    _require_library()
    from lm_eval.evaluator import evaluate

    from enginegate.quality.lm_eval.model import EngineLM

    with _seeded():
        tasks = _load(request)
        _check_answers(tasks, request.limit)
        model = EngineLM(engine, tokenizer, prefix, {name for name, task in tasks.items() if _reads_greedy(task)})
        results = evaluate(
            lm=model,
            task_dict={"tasks": tasks},
            limit=request.limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=request.chat,
            fewshot_as_multiturn=request.chat,
        )
    samples = {task: _by_document(task, found) for task, found in results["samples"].items()}
    rows = {task: _table(task, found, results["higher_is_better"][task]) for task, found in samples.items()}
    items = {key: row for found in rows.values() for key, row in found.items()}
    columns = _columns(request.name, list(items.values()))
    settings = _settings(results, request, tokenizer, prefix, columns)
    return quality_entry(
        engine,
        request.metric,
        REVISION,
        settings,
        columns,
        {key: [row[name] for name in columns] for key, row in items.items()},
        _scores(columns, rows) | _chance([each[0] for found in samples.values() for each in found.values()], tasks),
        {"lm_eval": "|".join(f"{name}:{value}" for name, value in {"name": request.name, **settings}.items())},
    )


def asked_digest(request: TaskRequest, tokenizer: Tokenizer) -> str:
    """A digest of everything that a task asks, its few-shot examples included: what an engine's scores depend on.

    Errors as in ``evaluate_task``.
    """
    _require_library()

    def chat(history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return tokenizer.conversation(history, add_generation_prompt)

    problem = f"lm-eval's task {request.name!r} cannot be asked"
    with _seeded(), edge(ConfigError, problem, "look at the task's file and its data"):
        tasks = _load(request)
        parts: list[object] = [version("lm_eval")]
        for name, task in tasks.items():
            task.build_all_requests(
                limit=request.limit,
                apply_chat_template=request.chat,
                fewshot_as_multiturn=request.chat,
                chat_template=chat if request.chat else None,
            )
            parts += [name, _plain(task.dump_config())]
            parts += [_plain([each.request_type, each.args, each.doc]) for each in task.instances]
    return digest(parts)


def _require_library() -> None:
    if find_spec("lm_eval") is None:
        raise CapabilityError(
            "tasks of lm-evaluation-harness are asked for, and lm_eval is not installed",
            "pip install 'enginegate[lm-eval]', or take quality.lm_eval out of the configuration",
        )


@contextmanager
def _seeded() -> Iterator[None]:
    """Tasks shuffle with the generators of ``random`` and numpy: seeded as by lm-eval, and given back as they were."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(_SEED)
    np.random.seed(_NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def _load(request: TaskRequest) -> dict[str, Any]:
    """The task by its name, or those of the group; ready to be asked."""
    with edge(
        ConfigError,
        f"quality.lm_eval.tasks: {request.name!r} cannot be loaded",
        "correct the task's file, or its data: dataset_path: json with dataset_kwargs.data_files needs no network",
    ):
        tasks = _found(request)
    for name, task in tasks.items():
        _refuse(name, task)
        own = task.get_config("num_fewshot")
        if request.shots and own == 0:
            raise ConfigError(
                f"quality.lm_eval.num_fewshot is {request.shots}, but task {name!r} says num_fewshot: 0 itself, and "
                "lm-eval would go by that",
                "take num_fewshot out of the task's file, or out of the configuration",
            )
        if request.shots is not None or own is None:
            task.set_config(key="num_fewshot", value=request.shots or 0)
        task.set_fewshot_seed(seed=_SHOTS_SEED)
    return tasks


def _refuse(name: str, task: Any) -> None:
    """Raise CapabilityError for a task that cannot be asked here."""
    if getattr(task, "UNSAFE_CODE", False):
        raise CapabilityError(
            f"lm-eval's task {name!r} runs code that a model writes, which is never done here",
            "run it by lm-eval itself, in a sandbox; or take another task",
        )
    if getattr(task, "MULTIMODAL", False):
        raise CapabilityError(
            f"lm-eval's task {name!r} shows pictures or sounds, and engines here read text alone", "take another task"
        )


def _found(request: TaskRequest) -> dict[str, Any]:
    """The tasks: of the folder alone where it has them, as reading all of lm-eval's own takes seconds."""
    from lm_eval.tasks import TaskManager

    if request.folder is not None:
        own = TaskManager(include_path=str(request.folder), include_defaults=False)
        if request.name in own.all_subtasks:
            return dict(own.load([request.name])["tasks"])
        if request.name in own.all_tasks:
            with suppress(KeyError):  # a group that names tasks of lm-eval's
                return dict(own.load([request.name])["tasks"])
    manager = _all_tasks(request.folder)
    if request.name not in manager.all_tasks:
        for file in _files_of(request):  # lm-eval leaves out what it cannot read; now it says why
            manager.load([str(file)])
        alike = [name for name in manager.all_tasks if name[:1] == request.name[:1]]
        where = f" and {request.folder}" if request.folder else ""
        raise ConfigError(
            f"quality.lm_eval.tasks: there is no task {request.name!r} in lm-eval {version('lm_eval')}{where}"
            f"{did_you_mean(request.name, alike)}",
            "correct the name, or name the folder of the task's YAML file as quality.lm_eval.include_path",
        )
    return dict(manager.load([request.name])["tasks"])


@lru_cache(maxsize=2)
def _all_tasks(folder: Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=None if folder is None else str(folder))


def _check_answers(tasks: Mapping[str, Any], limit: int | None) -> None:
    """Raise ConfigError for a right answer that is none of the choices: lm-eval would count every answer as wrong."""
    for name, task in tasks.items():
        own = callable(task.get_config("process_results")) or bool(getattr(task, "multiple_input", False))
        if task.OUTPUT_TYPE != "multiple_choice" or own:
            continue
        for number, document in task.doc_iterator(limit=limit):
            target, choices = task.doc_to_target(document), list(task.doc_to_choice(document))
            right = target if isinstance(target, list) else [target]
            known = (0 <= each < len(choices) if isinstance(each, int) else each in choices for each in right)
            if not right or not all(known):
                raise ConfigError(
                    f"lm-eval's task {name!r}, document {number}: the right answer is {target!r}, and there are "
                    f"{len(choices)} choices, {choices!r:.200}",
                    "correct that row of the task's data, or doc_to_target and doc_to_choice in its file",
                )


def _files_of(request: TaskRequest) -> Iterator[Path]:
    """Files of the folder that say they are the task or group."""
    said = re.compile(rf"^(task|group):\s*['\"]?{re.escape(request.name)}['\"]?\s*$", re.MULTILINE)
    for file in sorted(request.folder.rglob("*.yaml")) if request.folder else ():
        if said.search(file.read_text(encoding="utf-8", errors="replace")):
            yield file


def _reads_greedy(task: Any) -> bool:
    """Whether a task's scores look at whether a continuation is the greedy one."""
    if task.OUTPUT_TYPE == "multiple_choice":
        return "exact_match" in task.aggregation() or callable(task.get_config("process_results"))
    return bool(task.OUTPUT_TYPE == "loglikelihood")


def _by_document(task: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The samples of one document, one for each filter, under the hash of all that was asked.

    A document that is there again is another one: its hash counts how many equal ones came before.
    """
    documents: dict[object, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in samples:
        documents[sample["doc_id"]].append(sample)
    seen: Counter[str] = Counter()
    found = {}
    for each in documents.values():
        asked: dict[str, object] = {
            "task": task,
            "document": each[0]["doc_hash"],
            "asked": _plain(each[0]["arguments"]),
            "target": str(each[0]["target"]),
        }
        key = item_hash(asked)
        found[item_hash(asked | {"copy": seen[key]}) if seen[key] else key] = each
        seen[key] += 1
    return found


def _table(
    task: str, documents: Mapping[str, Sequence[Mapping[str, Any]]], better: Mapping[str, bool | None]
) -> dict[str, Row]:
    """The numbers of every document. ``better``: by score, whether more is; where nobody says, it is."""
    lower = {name for name, higher in better.items() if higher is False}
    return {key: _row(each, lower, f"{task}, document {each[0]['doc_id']}") for key, each in documents.items()}


def _row(samples: Sequence[Mapping[str, Any]], lower: set[str], place: str) -> Row:
    """The numbers of one document. Raises MeasurementError where one is not finite."""
    row: Row = {}
    for sample in samples:
        suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
        for name in sample["metrics"]:
            for column, number in _numbers(name, sample[name], name in lower):
                if not math.isfinite(number):
                    raise MeasurementError(
                        f"{place}: its {name} is {number}, no finite number", "look at the task, and at the engine"
                    )
                row[f"{column}{suffix}"] = number
    return row


def _numbers(name: str, value: object, lower: bool) -> Iterator[tuple[str, float]]:
    """The columns of one score of a document; none where it only counts among others, as in BLEU of a corpus."""
    if name in _COUNTED and isinstance(value, tuple):
        likelihood, count = value
        yield "nll", -float(likelihood)
        yield _COUNTED[name], float(count)
    elif isinstance(value, bool | int | float | np.number | np.bool_):
        if name == "perplexity":  # of a continuation: lm-eval keeps its log-likelihood under this name
            yield "loglikelihood", float(value)
        else:
            yield (f"-{name}", -float(value)) if lower else (name, float(value))


def _columns(name: str, rows: Sequence[Row]) -> list[str]:
    """The scores that every document has, the judged one first, and behind ``nll`` what it is divided by."""
    shared = [column for column in rows[0] if all(column in row for row in rows)] if rows else []
    if not shared:
        raise ConfigError(
            f"quality.lm_eval.tasks: {name!r} has no score that every document has, so nothing can be paired",
            "take a task with a score by document, such as acc or exact_match; of a group name the tasks one by one",
        )
    by_kind = {kind: [column for column in shared if column.partition(",")[0] == kind] for kind in JUDGED}
    judged = next((found[0] for found in by_kind.values() if found), shared[0])
    first = [judged, *(each for each in ("words", "bytes") if judged == "nll" and each in shared)]
    return [*first, *(column for column in shared if column not in first)]


def _settings(
    results: Mapping[str, Any],
    request: TaskRequest,
    tokenizer: Tokenizer,
    prefix: Sequence[int],
    columns: Sequence[str],
) -> dict[str, object]:
    """Everything but the documents that the numbers depend on."""
    return {
        "chat": digest([tokenizer.template or ""]) if request.chat else "no",
        "lm_eval": version("lm_eval"),
        "prefix": digest(prefix),
        "scores": ",".join(map(_word, columns)),
        "shots": _said([results["n-shot"][task] for task in results["samples"]]),
        "task": _said([results["versions"][task] for task in results["samples"]]),
    }


def _said(values: Sequence[object]) -> str:
    """Values of several tasks in a few words: each once, or a digest where there are many."""
    distinct = sorted(set(map(_word, values)))
    return ",".join(distinct) if len(distinct) <= 3 else digest([str(value) for value in values])


def _word(value: object) -> str:
    """A text without the signs that a version is made of."""
    return re.sub(r"[;=|\s]", "_", str(value))


def _scores(columns: Sequence[str], rows: Mapping[str, Mapping[str, Row]]) -> dict[str, float]:
    """Scores of all documents together; of a group, of each task, too."""
    every = [row for found in rows.values() for row in found.values()]
    scores = _together(columns, every)
    if columns[0] != "nll":
        scores["stderr"] = standard_error([row[columns[0]] for row in every])
    if len(rows) > 1:
        for task, found in rows.items():
            name, score = next(iter(_together(columns[:2], list(found.values())).items()))
            scores[f"{name}/{task}"] = score
    return scores


def _together(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
    sums = {name: math.fsum(row[name] for row in rows) for name in columns}
    scores: dict[str, float] = {}
    if "nll" in sums:
        for count, name in (("words", "word_perplexity"), ("bytes", "byte_perplexity")):
            if sums.get(count):
                scores[name] = math.exp(sums["nll"] / sums[count])
        if sums.get("bytes"):
            scores["bits_per_byte"] = sums["nll"] / math.log(2) / sums["bytes"]
    plain = (name for name in columns if name not in ("nll", "words", "bytes"))
    return scores | {name.removeprefix("-"): _mean(name, rows) for name in plain}


def _mean(name: str, rows: Sequence[Row]) -> float:
    """The mean of a score as lm-eval has it, which of one that is kept as less it is the other way round."""
    mean = fmean(row[name] for row in rows)
    return -mean if name.startswith("-") else mean


def _chance(samples: Sequence[Mapping[str, Any]], tasks: Mapping[str, Any]) -> dict[str, float]:
    """What guessing scores: nothing where an answer is free, so that a model without a right one has nothing to lose.

    Where the choices are the same in all documents, as with letters, it is the share of the most frequent right one:
    what a model has that always gives one letter.
    """
    if all(task.OUTPUT_TYPE == "loglikelihood_rolling" for task in tasks.values()):
        return {}
    if any(task.OUTPUT_TYPE != "multiple_choice" for task in tasks.values()):
        return {"chance": 0.0}
    offered = {tuple(arguments[1] for arguments in sample["arguments"]) for sample in samples}
    targets = Counter(str(sample["target"]) for sample in samples)
    guessed = fmean(1 / max(len(sample["arguments"]), 1) for sample in samples)
    return {"chance": max(guessed, max(targets.values()) / len(samples)) if len(offered) == 1 else guessed}


def _plain(value: object) -> str:
    """Canonical JSON, with what JSON has not as its text; addresses of objects, which change, are left out."""

    def shown(other: object) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", str(other))

    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=shown)
