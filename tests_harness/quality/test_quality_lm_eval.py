"""Our engines as lm-evaluation-harness sees them, its tasks as metrics, and our own metrics against its."""

import json
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from enginegate.core.errors import CapabilityError, ConfigError, MeasurementError
from enginegate.core.records import QualityEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Generation
from enginegate.quality.choice import evaluate_cloze, evaluate_letters
from enginegate.quality.data import LETTERS, Passage, Question, load_questions
from enginegate.quality.lm_eval.model import EngineLM, cut_before, read_generation
from enginegate.quality.lm_eval.tasks import TaskRequest, asked_digest, evaluate_task
from enginegate.quality.perplexity import evaluate_perplexity
from enginegate.verdicts.inputs import AccuracyInputs, CorpusInputs, NllInputs
from enginegate.verdicts.task_scores import task_gate
from lm_eval.api.instance import Instance
from quality_fakes import END, FakeEngine, WordTokenizer, hashed_logprob

WORDS = ["river", "Lake", "hill-top", "stone", "1492", "3.5", "North", "Sea,", "maple,", "oak", "O'Neill", "café"]
ROWS = [
    {"question": f"What is {n}?", "answer": word, "page": f"{word} is a word. So is {n}."}
    for n, word in enumerate(WORDS)
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")


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


def task_file(folder: Path, name: str, rows: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """A task over these rows, as a file in ``folder`` that needs no network."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    content = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "metadata": {"version": 1.0},
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return content


CHOOSING = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": ["river", "Lake", "oak"],
    "doc_to_target": "{{0 if question|length < 12 else 2}}",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm")],
}
READING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{page}}",
    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}
ANSWERING = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def measured(
    folder: Path, name: str, engine: FakeEngine | None = None, tokenizer: WordTokenizer | None = None, **asked: Any
) -> QualityEntry:
    request = TaskRequest(name, folder=folder, **asked)
    return evaluate_task(engine or FakeEngine(), tokenizer or WordTokenizer(), request)


def asked(*pairs: tuple[Any, ...], kind: str = "loglikelihood") -> list[Instance]:
    return [Instance(kind, {}, pair, 0, ("toy", n, 1)) for n, pair in enumerate(pairs)]  # type: ignore[arg-type]


# --- an engine as a language model -------------------------------------------------------------------------------


def test_likelihoods_are_those_of_the_tokens_behind_the_context() -> None:
    engine, tokenizer = FakeEngine(), WordTokenizer()
    found = EngineLM(engine, tokenizer).loglikelihood(asked(("the river ", "is wide"), ("the river", " is wide")))
    whole = tokenizer.encode("the river is wide")
    expected = sum(hashed_logprob(tuple(whole[:place]), whole[place]) for place in (2, 3))
    assert found == [(pytest.approx(expected), False)] * 2, "white space at the context's end is the continuation's"
    assert len(engine.scored) == 1, "all at once: the engine knows how many it scores together"


def test_what_has_no_context_is_scored_behind_bos_or_the_end_of_an_answer() -> None:
    engine, tokenizer = FakeEngine(), WordTokenizer()
    EngineLM(engine, tokenizer).loglikelihood(asked(("", "river")))
    assert engine.scored[-1] == [(END, *tokenizer.encode("river"))]
    tokenizer.bos_id = 7
    EngineLM(engine, tokenizer).loglikelihood(asked(("", "river")))
    assert engine.scored[-1] == [(7, *tokenizer.encode("river"))]


def test_a_prefix_stands_once_in_front_of_every_text() -> None:
    engine, tokenizer = FakeEngine(), WordTokenizer()
    model = EngineLM(engine, tokenizer, prefix=tokenizer.encode("START"))
    model.loglikelihood(asked(("the river", " is"), ("START the river", " is")))
    assert all(sequence.count(tokenizer.encode("START")[0]) == 1 for sequence in engine.scored[-1])


def test_a_continuation_without_a_token_is_named() -> None:
    with pytest.raises(ConfigError, match="'' adds no token to the text that ends in 'the river'"):
        EngineLM(FakeEngine(), WordTokenizer()).loglikelihood(asked(("the river", "")))


def test_a_text_that_is_too_long_is_refused_and_not_cut() -> None:
    engine = FakeEngine(max_input_len=4, max_output_len=2)
    with pytest.raises(ConfigError, match=r"(?s)a text of 8 tokens.*limits.max_input_len"):
        EngineLM(engine, WordTokenizer()).loglikelihood(asked(("one two three four five six seven", " eight")))
    with pytest.raises(ConfigError, match="a text of 7 tokens"):
        EngineLM(engine, WordTokenizer()).generate_until(
            asked(("one two three four five six seven", {}), kind="generate_until")
        )


class Counting(FakeEngine):
    """Says 1, 2, 3, ... after whatever it is asked, in words."""

    def __init__(self, tokenizer: WordTokenizer, said: str, **limits: int) -> None:
        super().__init__(**limits)
        self.said = tokenizer.encode(said)

    def generate(self, prompts: Any, params: SamplingParams) -> list[Generation]:
        self.generated.append([tuple(prompt) for prompt in prompts])
        self.params.append(params)
        answer = tuple(self.said[: params.max_tokens])
        return [Generation(answer, tuple(float(n) for n in range(len(answer))), "length")] * len(prompts)


def test_a_continuation_is_greedy_where_the_engine_would_say_it() -> None:
    tokenizer = WordTokenizer()
    engine = Counting(tokenizer, " is wide and deep")
    pairs = [("the river", " is"), ("the river", " is wide"), ("the river", " is deep"), ("the lake", " is wide")]
    model = EngineLM(engine, tokenizer)
    assert [greedy for _, greedy in model.loglikelihood(asked(*pairs))] == [True, True, False, True]
    assert all(params.ignore_eos for params in engine.params), "an end of an answer may be part of a continuation"
    assert sorted(len(batch) for batch in engine.generated) == [1, 2], "each context once for each length"
    engine.generated.clear()
    unread = EngineLM(engine, tokenizer, greedy_for={"another"})
    assert [greedy for _, greedy in unread.loglikelihood(asked(*pairs))] == [False] * 4
    assert engine.generated == []


def test_a_continuation_that_is_surely_greedy_is_not_asked_for() -> None:
    engine = FakeEngine(logprob=lambda before, token: math.log(0.6))
    assert EngineLM(engine, WordTokenizer()).loglikelihood(asked(("the river", " is")))[0][1] is True
    assert engine.generated == []


def test_whole_texts_are_read_in_windows_as_lm_eval_cuts_them() -> None:
    tokenizer = WordTokenizer()
    engine = FakeEngine(max_input_len=4, max_output_len=1)
    text = "one two three four five six seven"
    found = EngineLM(engine, tokenizer).loglikelihood_rolling(asked((text,), ("",), kind="loglikelihood_rolling"))
    tokens = tokenizer.encode(text)
    # four tokens go through at once, and one more can be predicted; each is predicted once, after all that fits
    windows = [(END, *tokens[:4]), tuple(tokens[2:])]
    assert sorted(engine.scored[-1]) == sorted(windows)
    first = sum(hashed_logprob(windows[0][:place], windows[0][place]) for place in range(1, 5))
    second = sum(hashed_logprob(windows[1][:place], windows[1][place]) for place in range(2, 5))
    assert found == [pytest.approx(first + second), 0.0]


def test_answers_end_before_the_first_text_of_until() -> None:
    tokenizer = WordTokenizer()
    engine = Counting(tokenizer, " one\n two. three")
    model = EngineLM(engine, tokenizer)
    wanted = [({"until": ["\n"]}, " one"), ({"until": "three"}, " one\n two. "), ({"max_gen_toks": 2}, " one\n")]
    requests = asked(*(("say", settings) for settings, _ in wanted), kind="generate_until")
    assert model.generate_until(requests) == [text for _, text in wanted]
    assert {params.max_tokens for params in engine.params} == {2, engine.spec.max_output_len}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_sample": True}, "samples .do_sample: True"),
        ({"temperature": 0.7}, "samples .do_sample: None, temperature: 0.7"),
        ({"num_beams": 4}, "decodes by num_beams: 4"),
        ({"repetition_penalty": 1.2, "foo": "x"}, "decodes by foo: 'x', repetition_penalty: 1.2"),
    ],
)
def test_what_is_not_greedy_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CapabilityError, match=f"lm-eval's task 'toy' {said}"):
        read_generation("toy", settings, most=64)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (None, ([], 64)),
        ({"until": None, "do_sample": False, "temperature": 0.7, "top_p": 0.9}, ([], 64)),
        ({"until": ["Q:", ""], "max_new_tokens": 3, "num_beams": 1}, (["Q:"], 3)),
        ({"max_gen_toks": 5, "max_tokens": 9}, ([], 5)),
    ],
)
def test_what_a_task_may_say_of_its_answers(settings: dict[str, Any] | None, found: tuple[list[str], int]) -> None:
    assert read_generation("toy", settings, most=64) == found


@pytest.mark.parametrize("settings", [{"max_gen_toks": 0}, {"max_gen_toks": "8"}, {"until": 3}, {"until": [3]}])
def test_lengths_and_ends_that_are_none_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lm-eval's task 'toy'"):
        read_generation("toy", settings, most=64)


def test_the_first_end_counts_wherever_it_stands_in_the_list() -> None:
    assert cut_before("a b c", ["c", "b"]) == "a "


def test_a_conversation_takes_the_model_s_template() -> None:
    model = EngineLM(FakeEngine(), WordTokenizer())
    history = [{"role": "user", "content": "Hello"}]
    assert model.apply_chat_template(history) == "user: Hello\nassistant:"
    assert model.apply_chat_template(history, add_generation_prompt=False) == "user: Hello"
    assert model.chat_template(True) == "one line a message"
    assert model.chat_template(False) is None
    assert model.tokenizer_name == "words"


# --- a task as a metric ------------------------------------------------------------------------------------------


def test_choices_of_a_task_become_right_and_wrong_answers(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    entry = measured(tmp_path, "picks")
    assert entry.metric == "lm_eval:picks"
    assert entry.columns == ["acc_norm", "acc"], "the score that is judged comes first"
    assert task_gate(entry) == (AccuracyInputs, ["acc_norm"])
    assert len(entry.items) == len(ROWS)
    assert entry.scores["acc"] == pytest.approx(sum(row[1] for row in entry.items.values()) / len(ROWS))
    right = sum(len(row["question"]) < 12 for row in ROWS)
    assert entry.scores["chance"] == pytest.approx(max(right, len(ROWS) - right) / len(ROWS)), "always the same choice"
    assert f"lm_eval={lm_eval.__version__};" in entry.version
    assert ";shots=0;task=1.0;" in entry.version
    assert entry.signatures["lm_eval"].startswith("name:picks|chat:no|lm_eval:")


def test_a_task_of_whole_texts_is_judged_as_perplexity(tmp_path: Path) -> None:
    task_file(tmp_path, "pages", ROWS, **READING)
    entry = measured(tmp_path, "pages")
    assert entry.columns == ["nll", "words", "bytes"]
    assert task_gate(entry) == (NllInputs, ["nll", "words"])
    assert "chance" not in entry.scores
    nll, words, size = (sum(column) for column in zip(*entry.items.values(), strict=True))
    assert entry.scores["word_perplexity"] == pytest.approx(math.exp(nll / words))
    assert entry.scores["bits_per_byte"] == pytest.approx(nll / math.log(2) / size)
    assert size == sum(len(row["page"].encode()) for row in ROWS)


def test_answers_of_a_task_are_right_where_they_match(tmp_path: Path) -> None:
    task_file(
        tmp_path,
        "answers",
        [{"question": f"Say it {n}", "answer": "oak" if n % 2 else "elm"} for n in range(4)],
        **ANSWERING,
    )
    tokenizer = WordTokenizer()
    entry = measured(tmp_path, "answers", Counting(tokenizer, "oak\nand more"), tokenizer)
    assert entry.columns == ["exact_match"]
    assert sorted(row[0] for row in entry.items.values()) == [0, 0, 1, 1]
    assert entry.scores["chance"] == 0, "nobody guesses a free answer"


def test_equal_documents_are_each_an_item(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", [ROWS[0]] * 3 + ROWS, **CHOOSING)
    assert len(measured(tmp_path, "picks").items) == len(ROWS) + 3


def test_what_is_asked_is_part_of_an_item(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    before = measured(tmp_path, "picks")
    again = measured(tmp_path, "picks")
    assert before == again
    task_file(tmp_path, "picks", ROWS, **{**CHOOSING, "doc_to_text": "Q: {{question}}"})
    assert not set(measured(tmp_path, "picks").items) & set(before.items), "a changed prompt pairs with nothing"


def test_the_limit_takes_the_first_documents(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    whole, part = measured(tmp_path, "picks"), measured(tmp_path, "picks", limit=5)
    assert len(part.items) == 5
    assert set(part.items) < set(whole.items)
    assert {key: whole.items[key] for key in part.items} == part.items


def test_a_group_is_all_of_its_tasks(tmp_path: Path) -> None:
    for name, rows in (("near", ROWS), ("far", ROWS[:7])):
        task_file(tmp_path, name, rows, **CHOOSING)
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["near", "far"]}), "utf-8")
    entry = measured(tmp_path, "both")
    assert len(entry.items) == len(ROWS) + 7, "equal documents of two tasks are two items"
    near, far = measured(tmp_path, "near"), measured(tmp_path, "far")
    assert entry.scores["acc_norm/near"] == near.scores["acc_norm"]
    mean = (near.scores["acc_norm"] * len(ROWS) + far.scores["acc_norm"] * 7) / (len(ROWS) + 7)
    assert entry.scores["acc_norm"] == pytest.approx(mean)


def test_other_scores_are_judged_by_their_mean(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def share(doc, results):\n    return {'acc': len(doc['answer']) / 10, 'miss': 2.0}\n", "utf-8"
    )
    task_file(tmp_path, "shares", ROWS, **ANSWERING)
    text = (tmp_path / "shares.yaml").read_text("utf-8").replace("exact_match", "acc")
    text += "process_results: !function own.share\n"
    text = text.replace(
        "metric_list:\n", "metric_list:\n- aggregation: mean\n  higher_is_better: false\n  metric: miss\n"
    )
    (tmp_path / "shares.yaml").write_text(text, "utf-8")
    entry = measured(tmp_path, "shares")
    assert entry.columns == ["acc", "-miss"]
    assert entry.scores["miss"] == 2.0
    assert {row[1] for row in entry.items.values()} == {-2.0}, "kept so that more is better"
    assert task_gate(entry) == (CorpusInputs, ["acc"]), "an accuracy that is a share is no right or wrong"


def test_a_score_of_the_corpus_alone_cannot_be_paired(tmp_path: Path) -> None:
    task_file(tmp_path, "corpus", ROWS, **{**ANSWERING, "metric_list": [{"metric": "bleu"}]})
    with pytest.raises(ConfigError, match="'corpus' has no score that every document has"):
        measured(tmp_path, "corpus")


def test_a_score_that_is_not_finite_names_its_document(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "def odd(doc, results):\n    return {'acc': float('nan') if doc['answer'] == 'stone' else 1.0}\n", "utf-8"
    )
    task_file(tmp_path, "odd", ROWS, **{**ANSWERING, "metric_list": [{"metric": "acc"}]})
    with (tmp_path / "odd.yaml").open("a") as file:
        file.write("process_results: !function odd.odd\n")
    with pytest.raises(MeasurementError, match="odd, document 3: its acc is nan"):
        measured(tmp_path, "odd")


def test_chat_and_shots_are_part_of_the_method(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    engine, tokenizer = FakeEngine(), WordTokenizer()
    entry = measured(tmp_path, "picks", engine, tokenizer, shots=2, chat=True)
    assert ";shots=2;" in entry.version
    assert "chat=no" not in entry.version
    texts = {tokenizer.decode(sequence) for sequence in engine.scored[-1]}
    assert all(text.count("user: What is") == 3 and "assistant:" in text for text in texts)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pikcs", "there is no task 'pikcs' in lm-eval .*; did you mean 'picks'"),
        ("broken", "'broken' cannot be loaded: .*"),
        ("lost", "'lost' cannot be loaded: .*nowhere.jsonl"),
        ("samples", "lm-eval's task 'samples' samples"),
        ("codes", "'codes' runs code that a model writes"),
    ],
)
def test_tasks_that_cannot_be_asked_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    from lm_eval.tasks import TaskManager

    def ours(folder: Path) -> TaskManager:  # reading all of lm-eval's own tasks takes seconds
        return TaskManager(include_path=str(folder), include_defaults=False)

    monkeypatch.setattr("enginegate.quality.lm_eval.tasks._all_tasks", ours)
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    task_file(tmp_path, "samples", ROWS, **{**ANSWERING, "generation_kwargs": {"do_sample": True, "temperature": 1.0}})
    task_file(tmp_path, "codes", ROWS, **ANSWERING, unsafe_code=True)
    lost = task_file(tmp_path, "lost", ROWS, **CHOOSING)
    lost["dataset_kwargs"]["data_files"] = {"test": str(tmp_path / "nowhere.jsonl")}
    (tmp_path / "lost.yaml").write_text(yaml.safe_dump(lost), "utf-8")
    (tmp_path / "broken.yaml").write_text("task: broken\ndoc_to_text: [unclosed\n", "utf-8")
    with pytest.raises((ConfigError, CapabilityError), match=said):
        measured(tmp_path, name)


@pytest.mark.parametrize("answer", [3, -1, "elm"])
def test_a_right_answer_that_is_no_choice_is_named(tmp_path: Path, answer: object) -> None:
    good = "oak" if isinstance(answer, str) else 2
    rows = [{"question": f"What is {n}?", "answer": answer if n == 5 else good} for n in range(8)]
    chosen = {**CHOOSING, "doc_to_target": "answer"}
    task_file(tmp_path, "picks", rows, **chosen)
    with pytest.raises(ConfigError, match=r"'picks', document 5: the right answer is .*, and there are 3 choices"):
        measured(tmp_path, "picks")
    assert len(measured(tmp_path, "picks", limit=5).items) == 5, "it is not asked"


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ([], {}, "'picks' cannot be loaded"),
        (ROWS, {"test_split": "validation"}, "'picks' cannot be loaded.*validation"),
        (ROWS, {"doc_to_text": "{{nothing}}"}, "'picks' cannot be loaded.*nothing"),
    ],
)
def test_data_that_a_task_cannot_use_are_named(
    tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], said: str
) -> None:
    task_file(tmp_path, "picks", rows, **{**CHOOSING, **changes})
    with pytest.raises(ConfigError, match=said):
        measured(tmp_path, "picks")


def test_shots_that_a_task_would_ignore_are_refused(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING, num_fewshot=0)
    with pytest.raises(ConfigError, match="num_fewshot is 5, but task 'picks' says num_fewshot: 0"):
        measured(tmp_path, "picks", shots=5)


def test_without_lm_eval_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enginegate.quality.lm_eval.tasks.find_spec", lambda _: None)
    with pytest.raises(CapabilityError, match=r"enginegate\[lm-eval\]"):
        measured(tmp_path, "picks")


def test_what_is_asked_has_a_digest_of_its_own(tmp_path: Path) -> None:
    def digest(**asked: Any) -> str:
        return asked_digest(TaskRequest("picks", folder=tmp_path, **asked), WordTokenizer())

    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    whole = digest()
    assert digest() == whole
    others = [digest(limit=5), digest(shots=1), digest(chat=True)]
    task_file(tmp_path, "picks", [*ROWS[:-1], {**ROWS[-1], "question": "What else?"}], **CHOOSING)
    assert len({whole, *others, digest()}) == 5


def test_generators_are_as_they_were(tmp_path: Path) -> None:
    task_file(tmp_path, "picks", ROWS, **CHOOSING)
    random.seed(5)
    expected = random.random()
    random.seed(5)
    measured(tmp_path, "picks")
    assert random.random() == expected


# --- our own metrics against lm-eval's -----------------------------------------------------------------------------


def lm_eval_results(tokenizer: WordTokenizer, task: Mapping[str, Any], shots: int, prefix: int = 0) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=EngineLM(FakeEngine(), tokenizer, greedy_for=()),
        tasks=[dict(task)],
        task_manager=TaskManager(include_defaults=False),
        num_fewshot=shots,
        bootstrap_iters=1,  # the standard error of a mean has a closed form, but is left out at 0
        log_samples=True,
    )


@pytest.mark.parametrize(("way", "shots"), [("letters", 2), ("cloze", 0), ("cloze", 2)])
def test_choices_and_accuracies_are_those_of_lm_eval(way: str, shots: int, tmp_path: Path) -> None:
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


def test_perplexity_is_that_of_lm_eval_text_by_text(tmp_path: Path) -> None:
    tokenizer = WordTokenizer()
    passages = [Passage(id=str(n), topic="t", text=row["page"]) for n, row in enumerate(ROWS)]
    ours = evaluate_perplexity(FakeEngine(), tokenizer, passages, prefill=None, prefix=[END])
    theirs = lm_eval_results(tokenizer, task_file(tmp_path, "pages", ROWS, **READING), shots=0)
    for sample in theirs["samples"]["pages"]:
        nll, _, size = ours.items[passages[sample["doc_id"]].hash]
        assert (-nll, size) == (pytest.approx(sample["byte_perplexity"][0]), sample["byte_perplexity"][1])
    assert ours.scores["bits_per_byte"] == pytest.approx(theirs["results"]["pages"]["bits_per_byte,none"])


def test_nothing_of_lm_eval_is_loaded_before_a_task_is_asked() -> None:
    import subprocess

    code = "import sys, enginegate.quality.measure, enginegate.plugin; print(int('lm_eval' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"
