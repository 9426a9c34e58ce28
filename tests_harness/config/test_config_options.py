"""Each backend brings the model of its own options; the configuration names none, and says what is wrong where."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

FAKES = Path(__file__).resolve().parents[1] / "fakes"
if str(FAKES) not in sys.path:
    sys.path.insert(0, str(FAKES))

import enginegate.config  # noqa: E402
from enginegate.config.loading import load_config  # noqa: E402
from enginegate.core.errors import CapabilityError, ConfigError  # noqa: E402
from enginegate.core.sections import read_size  # noqa: E402
from enginegate.core.specs import RuntimeSpec  # noqa: E402
from enginegate.engines import registry  # noqa: E402
from enginegate.engines.options import RuntimeOptions, options_model, runtime_spec  # noqa: E402
from enginegate.engines.process.child_engine import load_engine  # noqa: E402
from enginegate.engines.registry import BUILT_IN, DIALECTS, GROUP, load_backend  # noqa: E402
from enginegate.machine.fingerprint import fingerprint  # noqa: E402
from enginegate.session.bench import ModelBench  # noqa: E402
from workspace import make_workspace  # noqa: E402

HEAVY = ("torch", "transformers", "openvino", "optimum", "nncf", "vllm", "tensorrt_llm", "sqlalchemy", "scipy.stats")


@pytest.fixture
def write(tmp_path):
    """Writes a configuration with these engines and other sections, and gives its path."""

    def write(engines: object, **sections: object) -> Path:
        file = tmp_path / "model.yaml"
        default = next(iter(engines)) if isinstance(engines, dict) else "hf"
        head = {"schema": 1, "model": {"name": "m", "source": "random:tiny"}, "default_engine": default}
        file.write_text(yaml.safe_dump({**head, "engines": engines, **sections}), encoding="utf-8")
        return file

    return write


def section(precision: str = "fp32", **runtime: object) -> dict[str, object]:
    return {"precisions": [precision], "runtime": runtime}


def installed(monkeypatch, group: str, **places: str) -> None:
    """What other distributions offer in one group."""
    entries = [EntryPoint(name, place, group) for name, place in places.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in entries if entry.group == group])


def test_a_third_partys_option_reaches_its_engine_the_record_and_a_child(tmp_path, monkeypatch):
    """Formerly every key but TensorRT-LLM's two and the common ones was refused."""
    workspace = make_workspace(tmp_path)
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    engines = {"fake": {"precisions": ["int8_wo"], "runtime": {"slower": 3, "kv_cache_bytes": "1MiB"}}}
    config = load_config(workspace.variant("slower", engines=engines))
    spec, runtime = config.spec("fake", "int8_wo"), config.runtime("fake")
    assert (runtime.slower, runtime.kv_cache_bytes, isinstance(runtime, RuntimeSpec)) == (3.0, 1 << 20, True)
    bench = ModelBench.of(config, fingerprint(), tmp_path / "cache", print)
    assert bench.engines.get(spec, runtime, "candidate").runtime is runtime
    assert bench.engines.entries[spec.id].runtime["slower"] == 3.0
    child = load_engine(load_backend("fake"), bench.files.build(spec).path, spec, runtime, child=True)
    assert child.memory().kv_budget == 1 << 20
    child.close()
    bench.close()


def test_an_unknown_key_names_the_backend_and_the_keys_that_it_has(write):
    with pytest.raises(ConfigError) as caught:
        load_config(write({"fake": section(slowr=2, threads=-1), "hf": section(slower=2)}, limits={"max_batch": 1}))
    said = caught.value.problem
    assert re.search(r"engines\.fake\.runtime\.slowr: unknown key; backend fake has .*threads.*, slower\b", said)
    assert "engines.fake.runtime.threads: Input should be greater than or equal to 0" in said
    assert re.search(r"engines\.hf\.runtime\.slower: unknown key; backend hf has [a-z_, ]*queue_order\n", said)
    assert "limits.max_batch: unknown key" in said, "what is wrong elsewhere is said at once"


@pytest.mark.parametrize("runtime", [None, 3, ["threads"]])
def test_a_runtime_that_is_no_section_is_said(write, runtime):
    with pytest.raises(ConfigError, match=r"engines\.hf\.runtime: is a section"):
        load_config(write({"hf": {"precisions": ["fp32"], "runtime": runtime}}))


@pytest.mark.parametrize(
    ("engines", "more", "where"),
    [
        ({"vlmm": {"precisions": ["fp32"]}}, {}, "engines.vlmm: unknown backend"),
        ({"hf": section(), 3: section()}, {}, "engines.3: unknown backend"),
        ({"hf": section()}, {"reference": {"backend": "hff"}}, "reference.backend: unknown backend 'hff'"),
        ({"hf": section()}, {"quality": {"reference": {"backend": "x"}}}, "quality.reference.backend: unknown"),
        ({"hf": section()}, {"floors": {"opnvino": {"fp32": {}}}}, "floors.opnvino: unknown backend"),
    ],
)
def test_an_unknown_backend_is_refused_when_the_file_is_read(write, engines, more, where):
    """Formerly any name passed, and a floor under a misspelt one never fired."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(engines, **more))
    assert where in caught.value.problem
    assert "fake, hf, hf-graph, hf-static, openvino" in caught.value.problem


def test_backends_whose_libraries_are_missing_are_read_and_their_options_checked(write):
    engines = {"vllm": section("fp16"), "trtllm-torch": section(kv_cache_tokens=64)}
    assert load_config(write(engines)).runtime("trtllm-torch").kv_cache_tokens == 64
    with pytest.raises(ConfigError, match=r"trtllm-torch\.runtime\.kv_cache_fraction"):
        load_config(write({**engines, "trtllm-torch": section(kv_cache_fraction=2)}))


def test_a_backend_that_cannot_be_imported_hinders_only_who_selects_it(write, monkeypatch):
    installed(monkeypatch, GROUP, broken="no_such_module_here:Backend", absent="enginegate:NoSuchClass")
    config = load_config(write({"hf": section(threads=1), "broken": section(own=1), "absent": section(own=1)}))
    assert config.runtime("hf").threads == 1
    for name in ("broken", "absent"):
        with pytest.raises(CapabilityError, match=f"backend {name} cannot be imported"):
            config.runtime(name)


class _Own(RuntimeOptions):
    own: int = 0


class _Dropping:
    """Declares a key, and nothing that hands it on."""

    name = "dropping"
    options = _Own


class _Foreign:
    name = "foreign"
    options = dict


@pytest.mark.parametrize(("backend", "said"), [(_Dropping, "no runtime_spec to hand them on"), (_Foreign, "no model")])
def test_options_that_would_be_dropped_in_silence_are_refused(backend, said):
    with pytest.raises(ConfigError, match=said):
        options_model(backend())


def test_a_backend_without_options_of_its_own_gets_a_plain_runtime_spec():
    options = RuntimeOptions(threads=2, kv_cache_bytes="2GB")
    assert runtime_spec(load_backend("hf"), options) == RuntimeSpec(threads=2, kv_cache_bytes=2 * 10**9)


def english(content: dict[str, object], path: Path) -> dict[str, object]:
    """A dialect: ``motors`` for engines."""
    if content.get("motors") == "bad":
        raise ConfigError(f"{path}: motors are bad", "use good ones")
    return {**{key: value for key, value in content.items() if key != "motors"}, "engines": content["motors"]}


def test_a_third_partys_dialect_is_read(write, monkeypatch):
    installed(monkeypatch, DIALECTS, english=f"{__name__}:english")
    assert load_config(write("none", motors={"hf": section(threads=3)})).runtime("hf").threads == 3
    with pytest.raises(ConfigError, match="motors are bad"):
        load_config(write("none", motors="bad"))
    installed(monkeypatch, DIALECTS, broken="no_such_module_here:read")
    with pytest.raises(ConfigError, match=r"dialect broken .* cannot be imported"):
        load_config(write({"hf": section()}))


def test_the_configuration_names_no_backend():
    """Formerly it imported two modules of TensorRT-LLM's."""
    for file in Path(enginegate.config.__file__).parent.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert [name for name in BUILT_IN if f'"{name}"' in text] == [], file
        imported = set(re.findall(r"enginegate\.engines\.(\w+)", text))
        assert imported <= {"options", "registry"}, file


def test_reading_a_file_that_names_every_backend_imports_nothing_heavy(write):
    file = write({name: section("fp16") for name in BUILT_IN})
    program = (
        "import sys, pathlib; from enginegate.config.loading import load_config\n"
        f"load_config(pathlib.Path({str(file)!r}))\nprint(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512MiB", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("20 GB", 20 * 10**9),
        ("2Gi", 2 << 30),
        ("4096", 4096),
        ("16k", 16_000),
    ],
)
def test_sizes_may_be_written_with_a_unit(write, text, count):
    """Formerly keys of bytes took integers alone."""
    config = load_config(write({"hf": section(kv_cache_bytes=text)}, gates={"memory": {"quantum": text}}))
    assert (config.runtime("hf").kv_cache_bytes, config.file.gates.memory.quantum) == (count, count)
    assert type(config.runtime("hf").kv_cache_bytes) is int


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.2.3", "1GB or so", "12 apples", "1e6", "١GB"])
def test_what_is_no_size_is_refused(write, text):
    with pytest.raises(ConfigError, match=r"kv_cache_bytes: .*is not a size such as 512MiB"):
        load_config(write({"hf": section(kv_cache_bytes=text)}))
    with pytest.raises(ValueError, match="is not a size"):
        read_size(text)


def test_a_negative_size_is_refused(write):
    with pytest.raises(ConfigError, match=r"gates\.memory\.quantum"):
        load_config(write({"hf": section()}, gates={"memory": {"quantum": -1}}))
