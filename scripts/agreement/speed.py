"""How fast four-choice questions are answered: our engine beside lm-evaluation-harness's own Transformers path.

    python scripts/agreement/speed.py [--questions 1000] [--task letters|cloze] [--dtype auto] [--batch-size 8]

The same requests of lm-eval go to both, a few questions at a time in turn, so that whatever else the machine does hits
both: to the default OpenVINO engine (int8_wo) through our adapter, and to lm-eval's HFLM (``pip install accelerate
peft``), whose default precision is the checkpoint's. Both have loaded and warmed up before. Our own metric then answers
the same questions on the same engine, and must choose what lm-eval chooses there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import materials
from enginegate.machine.fingerprint import fingerprint
from enginegate.quality import sets
from enginegate.quality.choice import evaluate_cloze, evaluate_letters, letters_prompt
from enginegate.quality.data import LETTERS, Question, take
from enginegate.session.bench import ModelBench

RESULT = Path(__file__).parents[2] / "docs" / "results" / "quality" / "speed.json"
LIBRARIES = ("lm_eval", "transformers", "torch", "openvino", "openvino-genai")
#: Questions of one turn.
TURN = 25


def requests_of(folder: Path, task: str) -> list[list[Any]]:
    """The requests of each question, in order."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = []
    for made in manager.load([task])["tasks"].values():
        made.set_config(key="num_fewshot", value=0)
        made.build_all_requests()
        by_document: dict[int, list[Any]] = {}
        for request in made.instances:
            by_document.setdefault(request.doc_id, []).append(request)
        found += list(by_document.values())
    return found


def choices(answers: Sequence[tuple[float, bool]], questions: Sequence[Sequence[Any]], by_length: bool) -> list[int]:
    """The number of the choice of each question."""
    found, start = [], 0
    for requests in questions:
        values = [value for value, _ in answers[start : start + len(requests)]]
        if by_length:  # as acc_norm has it
            values = [value / len(request.args[1][1:]) for value, request in zip(values, requests, strict=True)]
        found.append(max(range(len(values)), key=values.__getitem__))
        start += len(requests)
    return found


def in_turns(
    questions: Sequence[Sequence[Any]], sides: Sequence[Callable[[list[Any]], list[tuple[float, bool]]]]
) -> list[tuple[float, list[tuple[float, bool]]]]:
    """Seconds and answers of each side, a few questions in turn, the first of a turn taking turns, too."""
    seconds = [0.0] * len(sides)
    answers: list[list[tuple[float, bool]]] = [[] for _ in sides]
    for number, start in enumerate(range(0, len(questions), TURN)):
        part = [request for requests in questions[start : start + TURN] for request in requests]
        order = list(range(len(sides)))
        for side in order if number % 2 == 0 else order[::-1]:
            begin = time.perf_counter()
            answers[side] += sides[side](part)
            seconds[side] += time.perf_counter() - begin
        print(f"{min(start + TURN, len(questions))} of {len(questions)} questions", file=sys.stderr)
    return list(zip(seconds, answers, strict=True))


def main(arguments: list[str]) -> int:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--task", choices=("letters", "cloze"), default="letters", help="MMLU's, or the bundled ones")
    parser.add_argument("--dtype", default="auto", help="of lm-eval's Transformers model")
    parser.add_argument("--batch-size", type=int, default=8, help="of lm-eval's Transformers model")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)

    import torch
    from enginegate.quality.lm_eval.model import EngineLM
    from lm_eval.models.huggingface import HFLM

    bench = ModelBench.named("smollm2-135m", lambda line: print(line, file=sys.stderr))
    config, tokenizer = bench.config, bench.files.tokenizer
    limits = config.file.limits
    most = limits.max_input_len + limits.max_output_len - 2
    if options.task == "letters":
        every = materials.mmlu_questions(materials.mmlu_file())
        asked = take([each for each in every if len(tokenizer.encode(letters_prompt(each))) <= most], options.questions)
    else:
        asked = take(sets.questions(config).items, options.questions)
    engine = bench.engines.get(config.spec("openvino", "int8_wo"), config.runtime("openvino"), "candidate")
    adapter = EngineLM(engine, tokenizer, greedy_for=())
    path = str(bench.files.checkpoint.path)
    theirs = HFLM(pretrained=path, device="cpu", dtype=options.dtype, batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.task == "letters":
            materials.write_letters(folder, asked, ())
        else:
            materials.write_cloze(folder, asked)
        questions = requests_of(folder, options.task)
        sides = (adapter.loglikelihood, lambda part: theirs.loglikelihood(part, disable_tqdm=True))
        for side in sides:  # compiles, and touches every page
            side(questions[0])
        (ours, our_answers), (hf, their_answers) = in_turns(questions, sides)
    by_length, effective = options.task == "cloze", engine.effective()
    mine, other = (choices(answers, questions, by_length) for answers in (our_answers, their_answers))
    by_hash: dict[str, Question] = {question.hash: question for question in asked}
    begin = time.perf_counter()
    entry = (evaluate_cloze if by_length else evaluate_letters)(engine, tokenizer, asked)
    direct = time.perf_counter() - begin
    column = entry.columns.index("chosen_norm" if by_length else "chosen")
    hashes = [requests[0].doc["hash"] for requests in questions]
    own = [int(entry.items[key][column]) for key in hashes]
    right = [by_hash[key].answer for key in hashes]
    record = {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": fingerprint().identity,
        "versions": {library: version(library) for library in LIBRARIES},
        "task": options.task,
        "questions": len(questions),
        "tokens": sum(len(tokenizer.encode(requests[0].args[0])) for requests in questions),
        "choices": len(LETTERS),
        "engines": {
            "ours": {
                "id": engine.spec.id,
                "precision": effective.precision,
                "threads": effective.threads,
            },
            "theirs": {
                "id": "lm-eval HFLM",
                "precision": str(theirs.model.dtype).removeprefix("torch."),
                "threads": torch.get_num_threads(),
                "batch_size": options.batch_size,
            },
        },
        "seconds": {"adapter": ours, "metric": direct, "theirs": hf},
        "same_as_lm_eval_on_our_engine": sum(map(int.__eq__, own, mine)),
        "same_as_transformers": sum(map(int.__eq__, mine, other)),
        "accuracy": {
            name: sum(map(int.__eq__, found, right)) / len(right) for name, found in (("ours", own), ("theirs", other))
        },
    }
    bench.close()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["seconds"]), f"{hf / ours:.2f} times as fast")
    return 0 if own == mine else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
