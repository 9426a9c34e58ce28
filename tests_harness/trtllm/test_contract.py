"""The table itself, versions, what doctor says, and the check of unpacked sources."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.cli.doctor import examine
from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.engines.registry import check_precision, load_backend
from enginegate.engines.trtllm import contract, gpu, source_check
from enginegate.engines.trtllm.facts_data import FACTS, THINGS
from enginegate.engines.trtllm.gpu import devices as visible_devices

AMPERE = gpu.Gpu("NVIDIA RTX A4000", (8, 6), 16 << 30)
TURING = gpu.Gpu("Tesla T4", (7, 5), 16 << 30)
BLACKWELL = gpu.Gpu("NVIDIA B200", (10, 0), 192 << 30)


def test_rows_belong_to_a_thing_and_say_where_they_were_read():
    names = {thing.name for thing in THINGS}
    assert len(names) == len(THINGS)
    for row in (*THINGS, *FACTS):
        assert len(row.source) > 8, row
        assert not row.before or contract.release(row.since) < contract.release(row.before)
    assert {fact.thing for fact in FACTS} <= names
    rows = [(fact.thing, fact.kind, fact.name) for fact in FACTS]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.2.1", (1, 2, 1)), ("1.3.0rc5", (1, 3, 0)), ("0.17.0.dev2024121700", (0, 17, 0)), ("1.0", (1, 0, 0))],
)
def test_versions_are_compared_by_their_release(version, numbers):
    assert contract.release(version) == numbers


def test_a_version_that_is_none_is_refused():
    with pytest.raises(CapabilityError, match="no version"):
        contract.release("unknown")


def test_names_come_and_go_with_versions():
    assert not contract.offers("1.1.0", "KvCacheConfig", "keyword", "tokens_per_block")
    assert contract.offers("1.2.0", "KvCacheConfig", "keyword", "tokens_per_block")
    assert "engine.LLM" in contract.things("1.2.1")
    assert not {"engine.LLM", "BuildConfig", "QuantConfig"} & set(contract.things("1.3.0rc5"))
    assert "torch.LLM" in contract.things("1.4.0rc1")


def test_gpus_are_those_that_cuda_shows(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "fakes_nvml"))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.architecture for device in visible_devices()] == ["sm_90", "sm_90"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(visible_devices()) == 1
    monkeypatch.setenv("ENGINEGATE_FAKE_GPUS", "0")
    assert visible_devices() == []
    monkeypatch.delitem(sys.modules, "pynvml")


@pytest.mark.version(None)
def test_missing_wheel_and_missing_driver_are_explained(monkeypatch):
    monkeypatch.setattr(gpu, "devices", list)
    for name in ("trtllm-engine", "trtllm-torch"):
        with pytest.raises(CapabilityError, match=r"tensorrt_llm is not installed.*no NVIDIA driver"):
            check_precision(load_backend(name), "fp16")


@pytest.mark.version("1.4.0rc1")
def test_too_new_version_is_explained():
    with pytest.raises(CapabilityError, match=r"removed upstream.*1\.4\.0rc1.*trtllm-torch"):
        check_precision(load_backend("trtllm-engine"), "int8_wo")
    check_precision(load_backend("trtllm-torch"), "fp8", "fp8")


@pytest.mark.version("0.21.0")
def test_too_old_version_is_explained(monkeypatch):
    monkeypatch.setattr(contract, "installed_version", lambda: "0.21.0")
    assert "older than 1.0" in contract.version_problem("trtllm-torch", "0.21.0")


@pytest.mark.version("1.2.1")
@pytest.mark.parametrize(
    ("device", "backend", "working", "refused"),
    [
        (AMPERE, "trtllm-engine", ["fp16", "bf16", "int8_wo", "int4_awq", "w8a8_sq"], {"fp8": "8.9 or later"}),
        (BLACKWELL, "trtllm-engine", ["fp8", "int8_wo"], {"w8a8_sq": "Blackwell", "int4_awq": "Blackwell"}),
        (TURING, "trtllm-engine", [], {"bf16": "8.0 or later", "int8_wo": "8.0 or later"}),
        (
            AMPERE,
            "trtllm-torch",
            ["bf16", "int4_awq"],
            {"fp8": "8.9", "nvfp4": "10.0", "int8_wo": "engine backend alone"},
        ),
        (BLACKWELL, "trtllm-torch", ["fp8", "nvfp4"], {"w8a8_sq": "engine backend alone"}),
    ],
)
def test_gpu_too_old_or_too_new_for_a_precision_is_explained(monkeypatch, device, backend, working, refused):
    monkeypatch.setattr(gpu, "devices", lambda: [device])
    for precision in working:
        check_precision(load_backend(backend), precision)
    for precision, reason in refused.items():
        with pytest.raises(CapabilityError, match=reason):
            check_precision(load_backend(backend), precision)


@pytest.mark.version("1.2.1")
def test_kv_precisions_follow_the_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "devices", lambda: [AMPERE])
    check_precision(load_backend("trtllm-engine"), "int8_wo", "int8")
    with pytest.raises(CapabilityError, match=r"8\.9"):
        check_precision(load_backend("trtllm-engine"), "int8_wo", "fp8")
    with pytest.raises(CapabilityError, match="has no KV precision 'int8'"):
        check_precision(load_backend("trtllm-torch"), "bf16", "int8")


@pytest.mark.version("1.2.1")
def test_engine_version_names_the_architecture_that_it_is_bound_to():
    assert load_backend("trtllm-engine").version().endswith("on sm_90")


@pytest.mark.version(None)
def test_doctor_tells_both_backends(monkeypatch):
    monkeypatch.setattr(gpu, "devices", list)
    found = examine()["backends"]
    for name in ("trtllm-engine", "trtllm-torch"):
        assert not found[name]["works"]
        assert "scripts/setup_tensorrt_llm.sh" in found[name]["precisions"]["fp16"]["reason"]


# Written for this test in the shapes that upstream's files have: a pydantic model over a base class, a validation
# alias, a dataclass whose fields begin with an underscore, a string enumeration, and methods on a base class.
SAMPLE = {
    "version.py": '__version__ = "1.2.0"\n',
    "__init__.py": "from .llmapi import LLM, SamplingParams\n",
    "_tensorrt_engine/__init__.py": "from tensorrt_llm.llmapi.llm import _TrtLLM as LLM\n",
}


def write_tree(root: Path, version: str) -> Path:
    """A package of our own making that has everything that the table says of a version."""
    package = root / "tensorrt_llm"
    files: dict[str, dict[str, list[str]]] = {}
    exports = []
    for thing in contract.things(version).values():
        if thing.module.endswith("llmapi"):
            exports.append(thing.name)
        for file, name in thing.defined:
            files.setdefault(file, {}).setdefault(name, [])
    for fact in contract.facts(version):
        thing = contract.things(version)[fact.thing]
        if not thing.defined:
            continue
        file, name = thing.defined[-1 if fact.kind in ("method", "parameter") else 0]
        body = files[file][name]
        if fact.kind == "member":
            body.append(f"    {fact.name} = {fact.name!r}")
        elif fact.kind == "method":
            parameters = [
                other.name.partition(".")[2]
                for other in contract.facts(version)
                if other.thing == fact.thing and other.name.startswith(f"{fact.name}.")
            ]
            body.append(f"    def {fact.name}(self, {', '.join(f'{p}=None' for p in parameters)}): ...")
        elif fact.kind in ("keyword", "attribute") and f"    {fact.name}: int = Field(default=None)" not in body:
            body.append(f"    {fact.name}: int = Field(default=None)")
    for file, classes in files.items():
        path = package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(
            f"class {name}(BaseModel):\n" + "\n".join(body or ["    ..."]) for name, body in classes.items()
        )
        path.write_text(text + "\n")
    for file, text in {**SAMPLE, "version.py": f'__version__ = "{version}"\n'}.items():
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(text)
    (package / "llmapi" / "__init__.py").write_text(f"__all__ = {exports!r}\n")
    return package


@pytest.mark.parametrize("version", ["1.0.0", "1.2.0", "1.4.0rc1"])
def test_whole_tree_has_nothing_missing(tmp_path, version, capsys):
    write_tree(tmp_path, version)
    assert main(["trtllm", "verify-contract", "--source", str(tmp_path)]) == 0
    assert " 0 missing" in capsys.readouterr().out


def test_every_single_change_upstream_is_noticed(tmp_path):
    """Take away one readable name after another; each must be reported, and nothing else of its kind."""
    package = write_tree(tmp_path, "1.2.0")
    whole = source_check.check(package)
    readable = [finding for finding in whole.findings if finding.outcome == "found" and finding.kind == "keyword"]
    assert len(readable) > 60
    for finding in readable[::7]:
        file, _, line = finding.place.partition(":")
        path = package / file
        text = path.read_text()
        lines = text.splitlines()
        assert finding.name in lines[int(line) - 1]
        lines[int(line) - 1] = lines[int(line) - 1].replace(finding.name, "renamed")
        path.write_text("\n".join(lines))
        missing = {(gone.thing, gone.name) for gone in source_check.check(package).missing}
        path.write_text(text)
        assert (finding.thing, finding.name) in missing


def test_missing_class_is_one_line_and_the_exit_code_says_so(tmp_path, capsys):
    package = write_tree(tmp_path, "1.2.0")
    path = package / "llmapi" / "llm_args.py"
    path.write_text(path.read_text().replace("class KvCacheConfig", "class OtherConfig"))
    assert main(["trtllm", "verify-contract", "--source", str(tmp_path)]) == 1
    shown = [line for line in capsys.readouterr().out.splitlines() if "KvCacheConfig" in line]
    assert len(shown) == 1
    assert main(["trtllm", "verify-contract", "--source", str(tmp_path), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {"missing", "found", "unreadable"} == {finding["outcome"] for finding in findings}


def test_shapes_of_upstream_files_are_read(tmp_path):
    package = write_tree(tmp_path, "1.2.0")
    (package / "plugin" / "plugin.py").write_text(
        "class PluginConfig(metaclass=Meta):\n    _tokens_per_block: int = field(default=32, init=False)\n"
    )
    (package / "llmapi" / "llm_args.py").write_text(
        (package / "llmapi" / "llm_args.py")
        .read_text()
        .replace(
            "class DraftTargetDecodingConfig(BaseModel):\n    max_draft_len: int = Field(default=None)\n"
            "    speculative_model_dir: int = Field(default=None)",
            "class DecodingBaseConfig(StrictBaseModel):\n    max_draft_len: Optional[int] = None\n"
            "    speculative_model: str = Field(default=None, validation_alias=AliasChoices('speculative_model', "
            "'speculative_model_dir'))\n\nclass DraftTargetDecodingConfig(DecodingBaseConfig):\n    pass",
        )
    )
    assert source_check.check(package).missing == ()


def test_trees_that_cannot_be_checked_say_why(tmp_path, capsys):
    with pytest.raises(ConfigError, match="holds no tensorrt_llm/llmapi"):
        source_check.find_package(tmp_path)
    package = write_tree(tmp_path, "1.2.0")
    (package / "version.py").write_text('__version__ = "0.17.0"\n')
    assert main(["trtllm", "verify-contract", "--source", str(tmp_path)]) == 2
    assert "the table begins with 1.0" in capsys.readouterr().err
    assert main(["trtllm", "verify-contract", "--source", str(tmp_path), "--version", "1.2.0"]) == 0
    (package / "version.py").unlink()
    with pytest.raises(ConfigError, match=r"version\.py cannot be read"):
        source_check.check(package)


@pytest.mark.version(None)
def test_without_a_source_the_installed_package_is_meant(capsys):
    assert main(["trtllm", "verify-contract"]) == 2
    assert "--source DIR" in capsys.readouterr().err


@pytest.mark.version("1.2.1")
def test_installed_package_is_found_without_importing_it():
    assert source_check.find_package(None).name == "tensorrt_llm"


def test_facts_are_values():
    assert replace(FACTS[0], name="other") != FACTS[0]
