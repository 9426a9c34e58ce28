"""The example backend of docs/adding_a_backend.md: installed as the page says, found, held to the conformance suite."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_text import blocks, read
from enginegate.config.loading import load_config
from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Backend
from enginegate.engines.registry import GROUP, known_backends, load_backend
from enginegate.models.sources import resolve

PAGE = read("adding_a_backend.md")
MODULE = blocks(PAGE, "python", "enginegate_bigram.py")
ENTRY_POINT = re.findall(rf'\[project\.entry-points\."{re.escape(GROUP)}"\]\n(.+)', "".join(blocks(PAGE, "toml")))

#: The test file that the page gives, taken as a part of this one.
_namespace: dict[str, Any] = {"__name__": __name__}
exec("".join(blocks(PAGE, "python", "test_bigram.py")), _namespace)
TestBigram = _namespace["TestBigram"]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The page's module and entry point as an installed distribution."""
    assert len(MODULE) == len(ENTRY_POINT) == 1
    folder = tmp_path_factory.mktemp("site")
    (folder / "enginegate_bigram.py").write_text(MODULE[0], encoding="utf-8")
    metadata = folder / "enginegate_bigram-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: enginegate-bigram\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{ENTRY_POINT[0].replace(chr(34), '')}\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("enginegate_bigram", None)


def test_it_is_found_and_complete():
    assert "bigram" in known_backends()
    assert isinstance(load_backend("bigram"), Backend)


def test_it_refuses_what_it_cannot_do(checkpoint, tmp_path):
    spec = EngineSpec("tiny", "bigram", "int8_wo")
    with pytest.raises(CapabilityError, match="int8_wo"):
        load_backend("bigram").build(spec, checkpoint, tmp_path, lambda _: None)
    with pytest.raises(CapabilityError, match="KV cache"):
        load_backend("bigram").load(tmp_path, spec, RuntimeSpec(kv_precision="int8"))


def test_it_builds_from_a_random_checkpoint(tmp_path):
    pytest.importorskip("torch")
    model = resolve("random:tiny?seed=0", cache=tmp_path / "cache", progress=lambda _: None)
    spec = EngineSpec("tiny", "bigram", "fp32", max_batch_size=2, max_input_len=8, max_output_len=8)
    backend = load_backend("bigram")
    folder = tmp_path / "engine"
    folder.mkdir()
    backend.build(spec, model, folder, lambda _: None)
    engine = backend.load(folder, spec, RuntimeSpec())
    answers = engine.generate([[3, 4, 5], [6]], SamplingParams(8))
    engine.close()
    assert [len(answer.token_ids) for answer in answers] == [8, 8]


def test_its_own_option_reaches_the_engine_from_a_configuration(checkpoint, tmp_path):
    section = yaml.safe_load(blocks(PAGE, "yaml")[0])
    head = {"schema": 1, "model": {"name": "tiny", "source": "random:tiny"}, "default_engine": "bigram"}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({**head, **section}))
    config = load_config(file)
    runtime, spec = config.runtime("bigram"), config.spec("bigram", "fp32")
    folder = tmp_path / "engine"
    folder.mkdir()
    load_backend("bigram").build(spec, checkpoint, folder, lambda _: None)
    engine = load_backend("bigram").load(folder, spec, runtime)
    assert engine.effective().details["memory_map"] is True
    engine.close()
    section["engines"]["bigram"]["runtime"] = {"memory_mapp": True}
    file.write_text(yaml.safe_dump({**head, **section}))
    with pytest.raises(ConfigError, match=r"runtime\.memory_mapp: unknown key; backend bigram has .*memory_map"):
        load_config(file)


def test_the_members_named_are_those_of_the_protocol():
    import enginegate.engines.base as base

    for protocol, heading in ((base.Backend, "**`Backend`**"), (base.Engine, "**`Engine`**")):
        table = PAGE[PAGE.index(heading) :].split("\n\n")[1]
        named = set(re.findall(r"`(\w+)", "\n".join(line.split("|")[1] for line in table.splitlines())))
        kinds = (protocol, base.ServingEngine) if protocol is base.Engine else (protocol,)
        members = {name for kind in kinds for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}
        assert named == members


def test_named_files_exist():
    for name in re.findall(r"`((?:harness|tests_harness)/[\w/.]+)`", PAGE):
        assert (Path(__file__).parents[2] / name).exists(), name
