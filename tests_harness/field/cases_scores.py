"""Scores that cannot see: BLEU and ROUGE of texts that their tokenizers make nothing of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from enginegate.config.loading import Config, load_config
from enginegate.core.records import Fingerprint, ModelEntry, QualityEntry, RunRecord
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Generation
from enginegate.plan.gates import EngineGates, ModelFacts
from enginegate.plan.plan import ReadOnce
from enginegate.quality.data import load_articles, load_prompts
from enginegate.quality.measure import FromReference, measure_quality
from enginegate.quality.similarity import reference_answers
from enginegate.quality.summaries import summary_prompt
from enginegate.storage.baselines import Provenance, QualityBaseline, QualityMetric
from enginegate.verdicts.inputs import restore_inputs
from enginegate.verdicts.judge import judge
from field_case import Got, attempt, case

COUNT = 24
END = 0
SPEC = EngineSpec("toy", "openvino", "int8_wo", max_input_len=512, max_output_len=128)
REFERENCE = EngineSpec("toy", "hf", "fp32", max_input_len=512, max_output_len=128)

ENGLISH = "The old ferry sails again from the north bank every morning, said pilot number {}."
RUSSIAN = "Старый паром снова ходит с северного берега каждое утро, сказал капитан {}."
HINDI = "पुरानी नाव हर सुबह उत्तरी किनारे से फिर चलती है, कप्तान {} ने कहा।"
CHINESE = "老渡轮每天早晨又从北岸出发{}号船长说"
RUBBISH = "Qwp zxv kjh gfd mnb vcx lkj poi uyt rew."


class Letters:
    """A tokenizer whose tokens are characters."""

    eos_ids = frozenset({END})
    bos_id = None
    opening = ()

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def chat(self, user_text: str) -> list[int]:
        return self.encode(user_text)


class Parrot:
    """An engine that says what it was told to say."""

    def __init__(self, spec: EngineSpec, says: Mapping[str, str]) -> None:
        self.spec = spec
        self._says = says

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        answers = [tuple(map(ord, self._says["".join(map(chr, prompt))]))[: params.max_tokens] for prompt in prompts]
        return [Generation(answer, tuple(float(i) for i in range(len(answer))), "stop") for answer in answers]


def texts(*templates: str) -> list[str]:
    """As many texts as there are items, the templates in turn, each with a word of its own."""
    return [templates[index % len(templates)].format(chr(ord("а") + index)) for index in range(COUNT)]


def configuration(folder: Path, summaries: Sequence[str], floors: Mapping[str, float], quality: Any) -> Config:
    """A configuration with its prompts and articles."""
    prompts = [{"id": f"p{i}", "category": "c", "text": f"Say {i:02}"} for i in range(COUNT)]
    articles = [{"id": f"a{i}", "title": "T", "text": f"Text {i}", "summary": text} for i, text in enumerate(summaries)]
    for name, items in (("prompts", prompts), ("articles", articles)):
        lines = [json.dumps(item) for item in items]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = {
        "schema": 1,
        "model": {"name": "toy", "source": "random:tiny?seed=0"},
        "default_engine": "openvino",
        "engines": {"openvino": {"precisions": ["int8_wo"]}},
        "quality": {"prompts": "prompts.jsonl", "articles": "articles.jsonl", "similarity_tokens": 100, **quality},
        "floors": {"openvino": {"int8_wo": dict(floors)}},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_config(path)


def record(*entries: QualityEntry) -> RunRecord:
    """A run that measured this."""
    return RunRecord(
        id="20261126-120000-0000",
        started="2026-11-26T12:00:00+00:00",
        finished="2026-11-26T12:00:01+00:00",
        status="complete",
        enginegate="0",
        arguments=[],
        commit="",
        fingerprint=Fingerprint(key="k", identity={}, context={}),
        model=ModelEntry(name="toy", source="random:tiny?seed=0", digest="d", random_weights=False),
        config={},
        engines=[],
        quality=list(entries),
    )


def accepted(entry: QualityEntry) -> QualityBaseline:
    """The entry as an accepted baseline."""
    provenance = Provenance(run="another", started="", commit="", fingerprint="k", versions={}, libraries={})
    stored = {name: getattr(entry, name) for name in ("version", "columns", "items", "scores")}
    metric = QualityMetric(provenance=provenance, key="", runtime_digest="", **stored)
    return QualityBaseline(
        model="toy",
        model_digest="d",
        backend="openvino",
        precision="int8_wo",
        variant="",
        metrics={entry.metric: metric},
    )


def verdict(
    folder: Path,
    reference: Sequence[str],
    said: Sequence[str],
    *,
    score: str = "bleu",
    summaries: Sequence[str] | None = None,
    accepted_before: Sequence[str] | None = None,
    floors: Mapping[str, float] | None = None,
    **quality: Any,
) -> Got:
    """What the suite says of an engine, all the way from the configuration to the verdict of the written record.

    Args:
        reference: the reference engine's answers; the summaries that people wrote where ``summaries`` is given.
        said: the engine's answers, or its summaries.
        score: ``bleu``, or a column of ROUGE.
        summaries: the reference engine's summaries: judged are summaries, not answers.
        accepted_before: what the engine said when its baseline was taken; None where floors judge.
        floors: the precision's.
        quality: keys of the configuration's section.
    """
    floors = {"bleu": 90.0, "rougeL": 0.9, "summary_rougeL_loss": 0.05} if floors is None else floors
    config = configuration(folder, reference if summaries is not None else [ENGLISH], floors, quality)
    tokenizer, metric = Letters(), "similarity" if summaries is None else "summaries"
    if summaries is None:
        asked = [prompt.text for prompt in load_prompts(config.resolve(config.file.quality.prompts))]
    else:
        asked = [summary_prompt(each) for each in load_articles(config.resolve(config.file.quality.articles))]
    theirs = Parrot(REFERENCE, dict(zip(asked, reference if summaries is None else summaries, strict=True)))
    answers = {}
    if summaries is None:
        answers = reference_answers(theirs, tokenizer, load_prompts(folder / "prompts.jsonl"), 100)

    def measured(engine: Parrot) -> QualityEntry:
        return measure_quality(metric, engine, tokenizer, config, FromReference(answers=answers))[metric]

    entry = measured(Parrot(SPEC, dict(zip(asked, said, strict=True))))
    baselines = {}
    if accepted_before is not None:
        before = measured(Parrot(SPEC, dict(zip(asked, accepted_before, strict=True))))
        baselines[SPEC.id] = ReadOnce(accepted(before))
    plan = SimpleNamespace(alpha=lambda _: 0.01, require_baseline=False, quality=baselines)
    candidate = SimpleNamespace(config=config, spec=SPEC, id=SPEC.id, runtime=RuntimeSpec())
    facts = ModelFacts("d", lambda: REFERENCE, REFERENCE, "20261126-120000-0000")
    gates = EngineGates(plan, candidate, facts)
    inputs = gates.bleu(entry) if score == "bleu" else gates.rouge(entry, score)
    run = RunRecord.model_validate_json(record(entry, measured(theirs)).model_dump_json())
    found = judge(restore_inputs(inputs.model_dump(mode="json")), run)
    return Got(found.status.value, " / ".join((found.explanation, *found.warnings)))


def blind(given: str, *says: str) -> Callable[..., Callable[[Path], Got]]:
    return case(given, kind="score that cannot see", expected="INCONCLUSIVE", says=says)


def first(given: str, *says: str) -> Callable[..., Callable[[Path], Got]]:
    return case(given, kind="score that cannot see", expected="NO_BASELINE", says=says)


def seen(given: str, expected: str, *says: str) -> Callable[..., Callable[[Path], Got]]:
    return case(given, kind="score that sees", expected=expected, says=says)


@blind("identical Chinese answers, BLEU by 13a", "24 of 24 items cannot be seen", "quality.bleu_tokenizer", "zh")
def chinese_bleu(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), texts(CHINESE))


@blind("rubbish for Chinese answers, floor bleu: 99", "24 of 24 items cannot be seen")
def chinese_bleu_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), [RUBBISH] * COUNT, floors={"bleu": 99.0})


@blind("rubbish for Chinese answers, baseline of rubbish", "24 of 24 items cannot be seen")
def chinese_bleu_baseline(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), ["x y z u v"] * COUNT, accepted_before=texts(CHINESE))


@seen("identical Chinese answers, bleu_tokenizer: zh", "PASS")
def chinese_zh(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), texts(CHINESE), bleu_tokenizer="zh")


@seen("rubbish for Chinese answers, bleu_tokenizer: zh", "FAIL")
def chinese_zh_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), [RUBBISH] * COUNT, bleu_tokenizer="zh")


@seen("rubbish for Chinese answers, bleu_tokenizer: char", "FAIL")
def chinese_char_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), [RUBBISH] * COUNT, bleu_tokenizer="char")


@blind("identical answers of three words, BLEU", "quality.bleu_smoothing: add-k", "similarity_tokens")
def three_words(folder: Path) -> Got:
    return verdict(folder, texts("yes it {}"), texts("yes it {}"))


@seen("identical answers of three words, bleu_smoothing: add-k", "PASS")
def three_words_smoothed(folder: Path) -> Got:
    return verdict(folder, texts("yes it {}"), texts("yes it {}"), bleu_smoothing="add-k")


@seen("rubbish for answers of three words, bleu_smoothing: add-k", "FAIL")
def three_words_smoothed_rubbish(folder: Path) -> Got:
    return verdict(folder, texts("yes it {}"), [RUBBISH] * COUNT, bleu_smoothing="add-k")


@blind("identical answers of three words, bleu_smoothing: floor", "24 of 24 items")
def three_words_floor(folder: Path) -> Got:
    return verdict(folder, texts("yes it {}"), texts("yes it {}"), bleu_smoothing="floor")


@seen("identical Russian answers, BLEU", "PASS")
def russian_bleu(folder: Path) -> Got:
    return verdict(folder, texts(RUSSIAN), texts(RUSSIAN))


@blind("identical Russian answers, ROUGE", "24 of 24 items cannot be seen", "quality.rouge_tokenizer: unicode")
def russian_rouge(folder: Path) -> Got:
    return verdict(folder, texts(RUSSIAN), texts(RUSSIAN), score="rougeL")


@blind("rubbish for Russian answers with the right number in it, ROUGE", "24 of 24 items cannot be seen")
def russian_number(folder: Path) -> Got:
    return verdict(folder, [RUSSIAN.format(5)] * COUNT, ["мяу 5 гав"] * COUNT, score="rougeL")


@seen("identical Russian answers, rouge_tokenizer: unicode", "PASS")
def russian_unicode(folder: Path) -> Got:
    return verdict(folder, texts(RUSSIAN), texts(RUSSIAN), score="rougeL", rouge_tokenizer="unicode")


@seen("rubbish for Russian answers, rouge_tokenizer: unicode", "FAIL")
def russian_unicode_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(RUSSIAN), ["мяу 5 гав"] * COUNT, score="rougeL", rouge_tokenizer="unicode")


@blind("rubbish for Hindi summaries, reference 0.000, ROUGE", "24 of 24 items cannot be seen", "rouge_tokenizer")
def hindi_summaries(folder: Path) -> Got:
    return verdict(folder, texts(HINDI), [RUBBISH] * COUNT, score="rougeL", summaries=texts(HINDI))


@blind("rubbish for Hindi summaries, baseline 0.000, ROUGE", "24 of 24 items cannot be seen")
def hindi_summaries_baseline(folder: Path) -> Got:
    rubbish = [RUBBISH] * COUNT
    return verdict(folder, texts(HINDI), rubbish, score="rougeL", summaries=texts(HINDI), accepted_before=texts(HINDI))


@seen("rubbish for Hindi summaries, rouge_tokenizer: unicode", "FAIL")
def hindi_unicode_rubbish(folder: Path) -> Got:
    return verdict(
        folder, texts(HINDI), [RUBBISH] * COUNT, score="rougeL", summaries=texts(HINDI), rouge_tokenizer="unicode"
    )


@seen("identical Hindi summaries, rouge_tokenizer: unicode", "PASS")
def hindi_unicode(folder: Path) -> Got:
    return verdict(
        folder, texts(HINDI), texts(HINDI), score="rougeL", summaries=texts(HINDI), rouge_tokenizer="unicode"
    )


@seen("rubbish for Chinese answers, rouge_tokenizer: unicode", "FAIL")
def chinese_unicode_rubbish(folder: Path) -> Got:
    said = ["天地玄黄宇宙洪荒日月盈昃"] * COUNT
    return verdict(folder, texts(CHINESE), said, score="rougeL", rouge_tokenizer="unicode")


@first("Chinese summaries, nothing accepted yet, ROUGE", "24 of 24 items cannot be seen", "rouge_tokenizer: unicode")
def chinese_first_session(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), texts(CHINESE), score="rougeL", summaries=texts(CHINESE), floors={})


@first("Chinese answers, nothing accepted yet, BLEU", "24 of 24 items cannot be seen", "quality.bleu_tokenizer (zh")
def chinese_first_answers(folder: Path) -> Got:
    return verdict(folder, texts(CHINESE), texts(CHINESE), floors={})


@blind("empty summaries of engine and reference, English", "the reference itself scores 0.000")
def empty_summaries(folder: Path) -> Got:
    return verdict(folder, texts(ENGLISH), [""] * COUNT, score="rougeL", summaries=[""] * COUNT)


@blind("empty summaries, as they were when the baseline was taken", "the baseline itself scores 0.000")
def empty_summaries_baseline(folder: Path) -> Got:
    empty = [""] * COUNT
    return verdict(folder, texts(ENGLISH), empty, score="rougeL", summaries=empty, accepted_before=empty)


@seen("empty answers for English ones, ROUGE", "FAIL")
def empty_answers(folder: Path) -> Got:
    return verdict(folder, texts(ENGLISH), [""] * COUNT, score="rougeL")


@blind("answers that are punctuation, ROUGE", "24 of 24 items cannot be seen")
def punctuation(folder: Path) -> Got:
    return verdict(folder, ["?!... --"] * COUNT, [RUBBISH] * COUNT, score="rougeL")


@blind("answers that are punctuation, rouge_tokenizer: unicode", "24 of 24 items", "have longer answers")
def punctuation_unicode(folder: Path) -> Got:
    return verdict(folder, ["?!... --"] * COUNT, [RUBBISH] * COUNT, score="rougeL", rouge_tokenizer="unicode")


@blind("identical answers of one word, rouge2", "24 of 24 items cannot be seen")
def one_word_bigrams(folder: Path) -> Got:
    return verdict(folder, ["yes"] * COUNT, ["yes"] * COUNT, score="rouge2")


@seen("identical answers of one word, rougeL", "PASS")
def one_word(folder: Path) -> Got:
    return verdict(folder, ["yes"] * COUNT, ["yes"] * COUNT, score="rougeL")


@seen("other answers of one word, rougeL", "FAIL")
def other_word(folder: Path) -> Got:
    return verdict(folder, ["yes"] * COUNT, ["no"] * COUNT, score="rougeL")


@seen("identical answers, half of two words and half longer, BLEU", "PASS")
def half_short(folder: Path) -> Got:
    mixed = texts(ENGLISH, "Of course")
    return verdict(folder, mixed, mixed)


@blind("answers of two words all lost among longer ones, BLEU", "12 of 24 items cannot be seen")
def half_short_lost(folder: Path) -> Got:
    mixed = texts("The ferry sails again today.", "Of course")
    said = [text if index % 2 == 0 else "x y" for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said)


@blind("rubbish for the Russian half of the answers, ROUGE", "12 of 24 items cannot be seen")
def half_russian(folder: Path) -> Got:
    mixed = texts(ENGLISH, RUSSIAN)
    said = [text if index % 2 == 0 else RUBBISH for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said, score="rougeL")


@blind("rubbish for the Chinese half of the answers, BLEU", "12 of 24 items cannot be seen")
def half_chinese(folder: Path) -> Got:
    mixed = texts(ENGLISH, CHINESE)
    said = [text if index % 2 == 0 else "x" for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said)


@blind("rubbish for the Chinese half of the answers, bleu_smoothing: add-k", "12 of 24 items cannot be seen")
def half_chinese_smoothed(folder: Path) -> Got:
    mixed = texts(ENGLISH, CHINESE)
    said = [text if index % 2 == 0 else "x" for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said, bleu_smoothing="add-k")


@blind("rubbish for the Chinese third of the answers, beside short ones that are right, BLEU", "16 of 24 items")
def third_chinese(folder: Path) -> Got:
    mixed = texts(ENGLISH, "yes it {}", CHINESE)
    said = [text if index % 3 < 2 else "x" for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said)


@seen("identical answers, a third of them Chinese and a third short, BLEU", "PASS")
def third_chinese_identical(folder: Path) -> Got:
    mixed = texts(ENGLISH, "yes it {}", CHINESE)
    return verdict(folder, mixed, mixed)


SHORT = "unquestionably extraordinarily {}"


@blind("a third of the answers short and all lost, bleu_smoothing: add-k", "8 of 24 items cannot be seen")
def third_short_smoothed(folder: Path) -> Got:
    mixed = texts(ENGLISH, SHORT, ENGLISH)
    said = [text if index % 3 != 1 else "x y z" for index, text in enumerate(mixed)]
    return verdict(folder, mixed, said, bleu_smoothing="add-k")


@seen("identical answers, a third of them short, bleu_smoothing: add-k", "PASS")
def third_short_smoothed_identical(folder: Path) -> Got:
    mixed = texts(ENGLISH, SHORT, ENGLISH)
    return verdict(folder, mixed, mixed, bleu_smoothing="add-k")


@seen("rubbish for all answers, half of which are Russian, ROUGE", "FAIL", "12 of 24 items cannot be seen")
def half_russian_all_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(ENGLISH, RUSSIAN), [RUBBISH] * COUNT, score="rougeL")


@blind("identical answers, two of them empty, at 6 % tolerated, ROUGE", "2 of 24 items cannot be seen")
def two_empty(folder: Path) -> Got:
    answers = ["", "", *texts(ENGLISH)[2:]]
    return verdict(folder, answers, answers, score="rougeL", accepted_before=answers)


@seen("identical answers, one of them empty, at 6 % tolerated, ROUGE", "PASS", "1 of 24 items cannot be seen")
def one_empty(folder: Path) -> Got:
    answers = ["", *texts(ENGLISH)[1:]]
    return verdict(folder, answers, answers, score="rougeL", accepted_before=answers)


@seen("identical English answers, one of two words, BLEU", "PASS")
def one_short(folder: Path) -> Got:
    answers = ["Of course", *texts(ENGLISH)[1:]]
    return verdict(folder, answers, answers)


@seen("identical English answers, BLEU", "PASS")
def english_bleu(folder: Path) -> Got:
    return verdict(folder, texts(ENGLISH), texts(ENGLISH))


@seen("rubbish for English answers, ROUGE", "FAIL")
def english_rouge_rubbish(folder: Path) -> Got:
    return verdict(folder, texts(ENGLISH), [RUBBISH] * COUNT, score="rougeL")


def chosen(folder: Path, **quality: Any) -> Got:
    return attempt(configuration, folder, [ENGLISH], {}, quality)


@case("bleu_tokenizer: chinese", kind="name of nothing", expected="ConfigError", says=("bleu_tokenizer", "'zh'"))
def unknown_bleu_tokenizer(folder: Path) -> Got:
    return chosen(folder, bleu_tokenizer="chinese")


@case("rouge_tokenizer: zh", kind="name of nothing", expected="ConfigError", says=("rouge_tokenizer", "'unicode'"))
def unknown_rouge_tokenizer(folder: Path) -> Got:
    return chosen(folder, rouge_tokenizer="zh")


@case("bleu_smoothing: true", kind="name of nothing", expected="ConfigError", says=("bleu_smoothing", "'add-k'"))
def smoothing_true(folder: Path) -> Got:
    return chosen(folder, bleu_smoothing=True)


@case(
    "bleu_tokenizer: ko-mecab, which is not installed",
    kind="name of nothing",
    expected="ConfigError",
    says=("bleu_tokenizer", "sacrebleu[ko]"),
)
def absent_tokenizer(folder: Path) -> Got:
    return chosen(folder, bleu_tokenizer="ko-mecab")
