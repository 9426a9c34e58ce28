"""``enginegate schema``: what it prints accepts what the suite accepts, and refuses what an editor should mark."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from enginegate.cli import main
from enginegate.config.json_schema import config_schema
from enginegate.config.project import own_folder
from enginegate.core.records import SCHEMA, RunRecord
from enginegate.engines.options import options_model, own_keys
from enginegate.engines.registry import BUILT_IN, load_backend

jsonschema = pytest.importorskip("jsonschema")

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "results" / "records"
#: Words of other projects' options, which the suite reads and the schema does not know.
DIALECT = re.compile(r"awq_block_size|^ *engine:", re.MULTILINE)

LEAST = {
    "schema": 1,
    "model": {"name": "toy", "source": "random:tiny?seed=0"},
    "default_engine": "hf",
    "engines": {"hf": {"precisions": ["fp32"]}},
}


@pytest.mark.parametrize("what", ["config", "record"])
def test_a_schema_is_printed_as_json(what, capsys):
    assert main(["schema", what]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


def test_another_word_is_bad_usage(capsys):
    assert main(["schema", "baseline"]) == 2
    assert "choose from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def config():
    return jsonschema.Draft202012Validator(config_schema())


@pytest.fixture(scope="module")
def record():
    return jsonschema.Draft202012Validator(RunRecord.model_json_schema())


def test_configurations_of_this_repository_are_taken(config):
    files = {file.name: file.read_text(encoding="utf-8") for file in own_folder("enginegate.configs").glob("*.yaml")}
    own = {name: text for name, text in files.items() if not DIALECT.search(text)}
    assert {"smollm2-135m.yaml", "smollm2-135m-mmlu.yaml", "tiny-random.yaml"} <= own.keys()
    assert {name: str(error) for name, text in own.items() for error in config.iter_errors(yaml.safe_load(text))} == {}


def changed(path: str, value: object) -> dict:
    content = copy.deepcopy(LEAST)
    *above, last = path.split(".")
    section = content
    for name in above:
        section = section.setdefault(name, {})
    section[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("engines.hf.runtime.kv_cache_bytes", "512MiB", [1]),
        ("engines.hf.runtime.threads", 2, "2"),
        ("engines.hf.precisions", ["fp32"], []),
        ("gates.alpha", 0.02, 0.7),
        ("limits.max_batch_size", 8, 0),
        ("quality.question_limit", None, -1),
        ("quality.passages", {"source": "path:a.csv", "columns": {"text": "body"}}, {"source": "path:a", "colums": {}}),
        ("floors", {"hf": {"fp32": {"speedup": {"b1": 1.5}}}}, {"hf": {"fp32": {"speed": 1}}}),
    ],
)
def test_what_an_editor_marks(path, right, wrong, config):
    assert [*config.iter_errors(changed(path, right))] == []
    assert [*config.iter_errors(changed(path, wrong))] != []


@pytest.mark.parametrize("name", BUILT_IN)
def test_keys_of_a_backend_are_known_below_it_alone(name, config):
    model = options_model(load_backend(name))
    for key in own_keys(model):
        default = json.loads(model().model_dump_json())[key]
        content = changed(f"engines.{name}", {"precisions": ["fp16"], "runtime": {key: default}})
        assert [*config.iter_errors(content)] == [], key
        assert [*config.iter_errors(changed(f"engines.hf.runtime.{key}", default))] != [] or key in own_keys(
            options_model(load_backend("hf"))
        )
    assert [*config.iter_errors(changed(f"engines.{name}.runtime.nosuch", 1))] != []


def test_committed_records_of_this_version_are_taken(record):
    texts = [file.read_text(encoding="utf-8") for file in sorted(RECORDS.glob("*/run.json"))]
    current = [each for each in map(json.loads, texts) if each["schema_version"] == SCHEMA]
    assert current
    for each in current[:3]:
        assert [*record.iter_errors(each)] == []
    assert [*record.iter_errors(current[0] | {"extra": 1})] != []
    assert [*record.iter_errors({**current[0], "engines": None})] != []
