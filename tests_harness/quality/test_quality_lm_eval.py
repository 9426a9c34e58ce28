"""The multiple-choice measurements against lm-evaluation-harness, on one engine and the same questions."""

import json
import random
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from enginegate.quality.choice import evaluate_cloze, evaluate_letters
from enginegate.quality.data import LETTERS, Question, load_questions
from quality_fakes import FakeEngine, WordTokenizer

WORDS = ["river", "Lake", "hill-top", "stone", "1492", "3.5", "North", "Sea,", "maple,", "oak", "O'Neill", "café"]


def written(path: Path, count: int, seed: int) -> list[Question]:
    """Questions of irregular spacing and choices of one to four words."""
    pick = random.Random(seed)
    rows = [
        {
            "question": f"{' ' * (n % 3)}Which {pick.choice(WORDS)} is no. {n}?{' ' * (n % 2)}",
            "subject": "world_religions",
            "choices": [" ".join(pick.choices(WORDS, k=pick.randint(1, 4))) for _ in LETTERS],
            "answer": pick.randrange(4),
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return load_questions(path)


def lm_eval_results(tokenizer: WordTokenizer, task: dict[str, Any], shots: int) -> dict[str, Any]:
    from lm_eval.api.model import TemplateLM
    from lm_eval.tasks import TaskManager

    engine = FakeEngine()

    class EngineLM(TemplateLM):
        eot_token_id = 0

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: object) -> list[int]:
            del add_special_tokens, kwargs
            return tokenizer.encode(string)

        def _loglikelihood_tokens(self, requests: Any, **kwargs: object) -> list[tuple[float, bool]]:
            del kwargs
            return [
                (sum(engine.score([context + continuation])[0][-len(continuation) :]), False)
                for _, context, continuation in requests
            ]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            raise NotImplementedError

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            raise NotImplementedError

    return lm_eval.simple_evaluate(
        model=EngineLM(),
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        num_fewshot=shots,
        bootstrap_iters=1,  # the standard error of a mean has a closed form, but is left out at 0
        log_samples=True,
    )


@pytest.mark.parametrize(("way", "shots"), [("letters", 2), ("cloze", 0), ("cloze", 2)])
def test_choices_and_accuracies_are_those_of_lm_eval(
    way: str, shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    questions = written(tmp_path / "test.jsonl", 60, seed=1)
    examples = written(tmp_path / "dev.jsonl", 2, seed=2)
    tokenizer = WordTokenizer()
    data = {split: str(tmp_path / f"{split}.jsonl") for split in ("test", "dev")}
    # the prompts are read from the installed tasks, so a format that differs from theirs in one character shows
    folder = Path(lm_eval.__file__).parent / "tasks" / "mmlu"
    template = {"letters": "default/_default_template_yaml", "cloze": "continuation/_continuation_template_yaml"}[way]
    formats = yaml.safe_load((folder / template).read_text("utf-8"))
    task: dict[str, Any] = {
        "task": f"oracle_{way}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": data, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        **{name: formats[name] for name in ("doc_to_text", "doc_to_choice", "doc_to_target")},
    }
    if way == "letters":
        subject = yaml.safe_load((folder / "default" / "mmlu_world_religions.yaml").read_text("utf-8"))
        task["description"] = subject["description"]
        ours = evaluate_letters(FakeEngine(), tokenizer, questions, examples if shots else ())
    else:  # their continuation tasks have a heading, which ours leaves out
        ours = evaluate_cloze(FakeEngine(), tokenizer, questions, examples=examples if shots else ())

    theirs = lm_eval_results(tokenizer, task, shots)

    samples = theirs["samples"][f"oracle_{way}"]
    assert len(samples) == len(questions)
    for sample in samples:
        row = dict(zip(ours.columns, ours.items[questions[sample["doc_id"]].hash], strict=True))
        likelihoods = [float(response[0]) for response in sample["filtered_resps"]]
        best, second = sorted(likelihoods, reverse=True)[:2]
        assert (row["acc"], row["acc_norm"]) == (sample["acc"], sample["acc_norm"])
        assert row["chosen"] == likelihoods.index(best)
        assert row["margin"] == pytest.approx(best - second, abs=1e-9)
    totals = theirs["results"][f"oracle_{way}"]
    assert ours.scores["accuracy"] == pytest.approx(totals["acc,none"])
    assert ours.scores["accuracy_norm"] == pytest.approx(totals["acc_norm,none"])
    assert ours.scores["stderr"] == pytest.approx(totals["acc_stderr,none"])
    assert ours.scores["stderr_norm"] == pytest.approx(totals["acc_norm_stderr,none"])
    assert 0 < ours.scores["accuracy"] < 1, "an oracle on which all is right or wrong would show nothing"
