"""Tokenizers and smoothing of BLEU and ROUGE, their ceilings, and what versions and records say of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from enginegate.config.schema import QualitySection
from enginegate.config.tokenizers import why_unavailable
from enginegate.core.errors import ConfigError
from enginegate.quality.bleu import bleu_ceiling, bleu_signature, corpus_bleu, segment_statistics, smoothing_of
from enginegate.quality.data import Article, Prompt
from enginegate.quality.entry import method_version
from enginegate.quality.rouge import ROUGE_COLUMNS, UnicodeTokenizer, rouge_ceilings, rouge_scores
from enginegate.quality.scoring import DEFAULT_SCORING, TextScoring
from enginegate.quality.similarity import evaluate_similarity, reference_answers
from enginegate.quality.summaries import evaluate_summaries, summary_prompt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from quality_fakes import FakeEngine, WordTokenizer, reply
from sacrebleu.metrics import BLEU

CHINESE, RUSSIAN, HINDI = (
    "老渡轮每天早晨又从北岸出发",
    "Старый паром снова ходит каждое утро",
    "पुरानी नाव हर सुबह फिर चलती है",
)
THAI, ARABIC, KOREAN = "เรือข้ามฟากเก่า", "العبارة القديمة تبحر من جديد", "낡은 배가 다시 떠난다"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The 2 ferries, at 3.50!", ["the", "2", "ferries", "at", "3", "50"]),
        ("Ёлка и ёж", ["ёлка", "и", "ёж"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("你好,世界", ["你", "好", "世", "界"]),
        ("iPhone很贵", ["iphone", "很", "贵"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("naïve cafe\u0301", ["naïve", "café"]),
        ("?! ... 🙂", []),
    ],
)
def test_words_of_every_script(text: str, words: list[str]) -> None:
    assert UnicodeTokenizer().tokenize(text) == words


@pytest.mark.parametrize("text", [CHINESE, RUSSIAN, HINDI, THAI, ARABIC, KOREAN])
def test_rouge_sees_other_scripts_by_unicode_alone(text: str) -> None:
    assert rouge_ceilings(text) == (0, 0, 0, 0)
    assert rouge_ceilings(text, "unicode") == (1, 1, 1, 1)
    assert rouge_scores("Qwp zxv kjh", text, "unicode") == (0, 0, 0, 0)
    assert 0 < rouge_scores(text[: len(text) // 2], text, "unicode")[0] < 1


@pytest.mark.parametrize(
    ("text", "ceilings"),
    [
        ("The ferry sails.", (1, 1, 1, 1)),
        ("naïve café in Besançon", (1, 1, 1, 1)),
        ("yes", (1, 0, 1, 1)),
        ("", (0, 0, 0, 0)),
        ("?!", (0, 0, 0, 0)),
        ("паром 5", (0, 0, 0, 0)),
        ("５０", (0, 0, 0, 0)),
    ],
)
def test_ceilings_of_rouge(text: str, ceilings: tuple[float, ...]) -> None:
    assert rouge_ceilings(text) == ceilings


@given(st.lists(st.sampled_from(["the", "cat", "sat.", "on", "3.5", "dog,"]), min_size=2, max_size=12).map(" ".join))
def test_latin_text_is_read_alike_by_both_tokenizers(text: str) -> None:
    assert rouge_scores(text, "the cat sat on it") == pytest.approx(rouge_scores(text, "the cat sat on it", "unicode"))
    assert rouge_ceilings(text) == rouge_ceilings(text, "unicode") == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "tokenizer", "smoothing", "ceiling"),
    [
        ("The ferry sails again", "13a", "exp", 100),
        ("The ferry sails", "13a", "exp", 0),
        ("The ferry sails", "13a", "floor", 0),
        ("The ferry sails", "13a", "none", 0),
        ("The ferry sails", "13a", "add-k", 100),
        ("", "13a", "add-k", 0),
        (CHINESE, "13a", "exp", 0),
        (CHINESE, "13a", "add-k", 0),
        (CHINESE, "zh", "exp", 100),
        (CHINESE, "char", "exp", 100),
        (RUSSIAN, "13a", "exp", 100),
        (HINDI, "13a", "exp", 100),
        (THAI, "intl", "exp", 0),
        (THAI, "char", "exp", 100),
    ],
)
def test_ceilings_of_bleu(text: str, tokenizer: str, smoothing: str, ceiling: float) -> None:
    assert bleu_ceiling(text, tokenizer, smoothing) == pytest.approx(ceiling)


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "zh", "char", "none"])
@pytest.mark.parametrize("smoothing", ["exp", "floor", "add-k", "none"])
def test_bleu_is_that_of_sacrebleu_by_every_choice(tokenizer: str, smoothing: str) -> None:
    said, reference = ["渡轮 sails again, at 3.", "yes it is"], ["老渡轮 sails again at 3.", "yes it was"]
    metric = BLEU(tokenize=tokenizer, smooth_method=smoothing)
    expected = metric.corpus_score(said, [reference]).score
    rows = [segment_statistics(*pair, tokenizer) for pair in zip(said, reference, strict=True)]
    assert corpus_bleu(rows, smoothing) == pytest.approx(expected, abs=1e-9)
    signature = bleu_signature(tokenizer, smoothing)
    assert signature == str(metric.get_signature())
    assert smoothing_of(signature) == smoothing
    assert f"tok:{tokenizer}|" in signature


def test_the_default_of_the_configuration_is_that_of_scoring() -> None:
    section = QualitySection()
    chosen = TextScoring(section.bleu_tokenizer, section.bleu_smoothing, section.rouge_tokenizer)
    assert chosen == DEFAULT_SCORING


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bleu_tokenizer", "spm"),
        ("bleu_tokenizer", "ZH"),
        ("bleu_tokenizer", None),
        ("bleu_tokenizer", 13),
        ("bleu_smoothing", "add_k"),
        ("rouge_tokenizer", "13a"),
    ],
)
def test_a_choice_that_is_none_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        QualitySection.model_validate({key: value})
    with pytest.raises(ConfigError, match="is none of"):
        TextScoring(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("tokenizer", "words"), [("ja-mecab", r"sacrebleu\[ja\]"), ("ko-mecab", r"sacrebleu\[ko\]")])
def test_a_tokenizer_that_is_not_installed_is_refused_with_what_would_install_it(
    monkeypatch: pytest.MonkeyPatch, tokenizer: str, words: str
) -> None:
    monkeypatch.setattr("enginegate.config.tokenizers.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=words):
        QualitySection.model_validate({"bleu_tokenizer": tokenizer})
    with pytest.raises(ConfigError, match=words):
        TextScoring(bleu_tokenizer=tokenizer)


def test_a_tokenizer_whose_file_is_not_there_fetches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("enginegate.config.tokenizers.find_spec", lambda _: object())
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    reason = why_unavailable("flores200")
    assert str(tmp_path / "models") in reason
    assert "not fetched" in reason
    named = Path(reason.split("needs the file ")[1].split(",")[0])
    named.parent.mkdir()
    named.write_bytes(b"model")
    assert why_unavailable("flores200") == ""


PROMPTS = [Prompt(id=f"p{i}", category="c", text=text) for i, text in enumerate(("Say one", "Say"))]
SAID = {"Say one": "It is one.", "Say": "two words"}


@pytest.mark.parametrize(
    ("scoring", "version"),
    [
        (DEFAULT_SCORING, "similarity/1;max_tokens=20"),
        (TextScoring(bleu_tokenizer="zh"), "similarity/1;bleu=zh,exp;max_tokens=20"),
        (TextScoring(bleu_smoothing="add-k"), "similarity/1;bleu=13a,add-k;max_tokens=20"),
        (TextScoring(rouge_tokenizer="unicode"), "similarity/1;max_tokens=20;rouge=unicode"),
    ],
)
def test_answers_say_how_they_were_scored_and_what_their_reference_reaches(scoring: TextScoring, version: str) -> None:
    tokenizer = WordTokenizer()
    engine = FakeEngine(reply(tokenizer, SAID))
    reference = reference_answers(engine, tokenizer, PROMPTS, 20)
    entry = evaluate_similarity(engine, tokenizer, PROMPTS, reference, 20, scoring)
    assert method_version(entry.version) == version
    assert entry.signatures == scoring.signatures
    assert set(entry.ceilings) == {"bleu", *ROUGE_COLUMNS}
    assert all(set(found) == set(entry.items) for found in entry.ceilings.values())
    short = PROMPTS[1].hash
    assert entry.ceilings["bleu"][short] == pytest.approx(100 if scoring.bleu_smoothing == "add-k" else 0)
    assert entry.ceilings["rougeL"][short] == 1


def test_summaries_say_how_they_were_scored_and_what_the_written_ones_reach() -> None:
    tokenizer = WordTokenizer()
    article = Article(id="a1", title="T", text="A ferry sails again.", summary=RUSSIAN)
    engine = FakeEngine(reply(tokenizer, {summary_prompt(article): "A ferry is back."}))
    entry = evaluate_summaries(engine, tokenizer, [article], 16)
    assert method_version(entry.version) == "summaries/1;max_tokens=16"
    assert entry.ceilings == {name: {article.hash: 0} for name in ROUGE_COLUMNS}
    assert set(entry.signatures) == {"rouge"}
    seen = evaluate_summaries(engine, tokenizer, [article], 16, TextScoring(rouge_tokenizer="unicode"))
    assert method_version(seen.version) == "summaries/1;max_tokens=16;rouge=unicode"
    assert seen.ceilings["rougeL"] == {article.hash: 1}


def test_evaluate_metrics_warn_of_what_they_cannot_see_and_take_a_tokenizer() -> None:
    from enginegate.quality.evaluate_metrics import Bleu, Rouge

    texts = {"predictions": [CHINESE], "references": [CHINESE]}
    with pytest.warns(UserWarning, match="bleu of the references against themselves is not 100"):
        assert Bleu(keep_in_memory=True).compute(**texts) == {"bleu": 0}
    with pytest.warns(UserWarning, match="is not 1 in 1 of 1 cases") as caught:
        assert Rouge(keep_in_memory=True).compute(**texts)["rougeL"] == 0
    said = [str(warning.message) for warning in caught]
    assert [text.split()[0] for text in said] == list(ROUGE_COLUMNS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Bleu(keep_in_memory=True, tokenizer="zh").compute(**texts) == {"bleu": pytest.approx(100)}
        assert Rouge(keep_in_memory=True, tokenizer="unicode").compute(**texts)["rougeL"] == 1
