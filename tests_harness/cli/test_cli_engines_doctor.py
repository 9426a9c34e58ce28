from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.core.errors import CapabilityError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Capabilities, Capability, Progress
from enginegate.engines.store import EngineStore
from enginegate.models.checkpoint import Checkpoint


class FileBackend:
    """Builds one file, loads nothing."""

    name = "files"

    def version(self) -> str:
        return "files 1"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            {"fp32": Capability(True), "fp8": Capability(False, "this CPU has no fp8")},
            {"fp32": Capability(True)},
            "cpu",
        )

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        (out_dir / "weights.bin").write_bytes(spec.precision.encode() * 1000)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        raise AssertionError("nothing is loaded here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def built(cache: Path, tmp_path: Path) -> Path:
    store = EngineStore(cache)
    for precision in ("fp32", "int8_wo"):
        spec = EngineSpec(model="tiny", backend="files", precision=precision)
        store.get(spec, Checkpoint(tmp_path, "d" * 64, "path:x"), FileBackend(), progress=lambda _: None)
    store.close()
    return cache


@pytest.mark.usefixtures("cache")
def test_an_empty_store_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "ls"]) == 0
    assert "no engines built yet" in capsys.readouterr().out
    assert main(["engines", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["engines", "verify"]) == 0
    assert main(["engines", "prune", "--keep", "1GB"]) == 0


@pytest.mark.usefixtures("built")
def test_ls_names_engines_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "ls"]) == 0
    out = capsys.readouterr().out
    assert "tiny-files-int8_wo" in out
    assert "2 engine(s), 11.0 kB" in out
    assert main(["engines", "ls", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {entry["manifest"]["spec"]["precision"] for entry in answer} == {"fp32", "int8_wo"}


def test_ls_tells_what_it_does_not_list(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(built.glob("engines/*/manifest.json")).unlink()
    assert main(["engines", "ls"]) == 0
    out = capsys.readouterr().out
    assert "1 damaged: see enginegate engines verify" in out
    assert "1 engine(s)" in out


@pytest.mark.parametrize("action", [["ls"], ["verify"], ["prune", "--keep", "0"]])
def test_a_cache_that_is_no_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dangling"):
        monkeypatch.setenv("ENGINEGATE_CACHE", str(tmp_path / name))
        assert main(["engines", *action]) == 2
        assert f"the cache {tmp_path / name} is no folder" in capsys.readouterr().err


def test_verify_finds_a_flipped_byte(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "verify"]) == 0
    assert "2 engine(s), all as they were built" in capsys.readouterr().out
    file = next(built.glob("engines/*/engine/weights.bin"))
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    assert main(["engines", "verify"]) == 1
    assert "damaged: tiny-files-" in capsys.readouterr().out
    assert main(["engines", "verify", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem["reason"]


@pytest.mark.usefixtures("built")
def test_prune_keeps_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "prune", "--keep", "1GB"]) == 0
    assert "0 engine(s) removed" in capsys.readouterr().out
    assert main(["engines", "prune", "--keep", "0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["engines", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def backends(monkeypatch: pytest.MonkeyPatch, known: dict[str, object]) -> None:
    def load(name: str) -> object:
        found = known[name]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("enginegate.engines.registry.known_backends", lambda: sorted(known))
    monkeypatch.setattr("enginegate.engines.registry.load_backend", load)


def test_doctor_says_what_works_and_why_the_rest_does_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = CapabilityError("vllm is not installed", "pip install 'enginegate[vllm]'")
    backends(monkeypatch, {"files": FileBackend(), "vllm": missing, "odd": ValueError("broken plugin")})
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for expected in (
        "backend files: works",
        "precisions: fp32",
        "not fp8: this CPU has no fp8",
        "backend vllm: does not work here",
        "pip install 'enginegate[vllm]'",
        "broken plugin",
        str(cache),
        "free",
        "fingerprint",
        "numpy",
    ):
        assert expected in out, expected
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["backends"]["files"]["precisions"]["fp8"] == {"supported": False, "reason": "this CPU has no fp8"}
    assert answer["cache"]["free_bytes"] > 0


@pytest.mark.usefixtures("cache")
def test_doctor_is_1_where_nothing_works(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    backends(monkeypatch, {"vllm": CapabilityError("vllm is not installed")})
    assert main(["doctor"]) == 1
    assert "does not work here" in capsys.readouterr().out


class PartlyAble(FileBackend):
    """Some of its precisions share a reason, and a KV precision has it, too."""

    reason = (
        "this processor computes neither in bf16 nor in fp16, and a whole sentence about that is longer than a line"
    )

    def capabilities(self) -> Capabilities:
        absent, slow = Capability(False, self.reason), Capability(True, "works, but slowly")
        precisions = {"fp32": Capability(True), "bf16": absent, "fp16": absent, "fp8": slow, "int8_wo": slow}
        return Capabilities(precisions, {"fp32": Capability(True), "bf16": absent}, "cpu")


class Unable(FileBackend):
    """Nothing works, for one reason."""

    def capabilities(self) -> Capabilities:
        absent = Capability(False, "needs an NVIDIA GPU, and NVML shows none")
        return Capabilities(dict.fromkeys(("fp16", "bf16", "fp8"), absent), {"fp8": absent}, "cuda")


@pytest.mark.usefixtures("cache")
def test_doctor_says_a_reason_once_for_all_that_share_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backends(monkeypatch, {"partly": PartlyAble(), "unable": Unable()})
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    partly, unable = (" ".join(part.split()) for part in out.partition("backend partly: ")[2].split("backend unable: "))
    assert partly.count(PartlyAble.reason) == 1
    assert f"not bf16, fp16, KV bf16: {PartlyAble.reason}" in partly
    assert "precisions: fp32, fp8, int8_wo" in partly
    assert partly.endswith("fp8, int8_wo: works, but slowly")
    assert unable == "does not work here files 1, on cuda needs an NVIDIA GPU, and NVML shows none"
    (folder,) = [line for line in out.splitlines() if "free" in line and "/" in line] or [""]
    assert [line for line in out.splitlines() if len(line) > 80 and line != folder] == []
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["backends"]
    assert {entry["reason"] for entry in answer["unable"]["precisions"].values()} == {
        "needs an NVIDIA GPU, and NVML shows none"
    }
    assert len(answer["unable"]["precisions"]) == 3
