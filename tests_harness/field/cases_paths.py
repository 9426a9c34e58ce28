"""Paths and addresses as people write them, and caches that are somebody else's."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from enginegate.config.loading import find_config, load_config
from enginegate.core.records import Stored
from enginegate.core.specs import EngineSpec
from enginegate.engines.base import Capabilities
from enginegate.engines.store import EngineStore
from enginegate.models import hub, sources
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.sources import resolve
from enginegate.quality.reference_cache import load_or_measure
from enginegate.session.files import ModelFiles
from enginegate.storage.history.database import check
from enginegate.storage.runs import find_record
from field_case import Got, attempt, case
from unprivileged import belonging_to_somebody, unprivileged

SPEC = EngineSpec(model="toy", backend="small", precision="int8_wo")
HUB = "hub:org/name@" + "0" * 40


@case("model source with a kind nobody knows", kind="boundary", expected="ModelError", says=("path:DIR",))
def unknown_source(folder: Path) -> Got:
    return attempt(resolve, "ftp://models/x", cache=folder, progress=print)


def configured(folder: Path, **sections: Any) -> Path:
    """A configuration in ``folder/configs``, with the home folder ``folder/home``, in which a model's folder is."""
    (folder / "configs").mkdir()
    (folder / "home" / "model").mkdir(parents=True)
    content = {
        "schema": 1,
        "model": {"name": "toy", "source": "path:~/model"},
        "engines": {"hf": {"precisions": ["fp32"]}},
        "default_engine": "hf",
        **sections,
    }
    file = folder / "configs" / "toy.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def at_home(folder: Path, function: Callable[..., Any], *arguments: Any) -> Got:
    with mock.patch.dict(os.environ, HOME=str(folder / "home")):
        got = attempt(function, *arguments)
    return Got(got.outcome, got.text.replace(str(folder), "FOLDER"))


@case("source: path:~/nope", kind="boundary", expected="ConfigError", says=("no checkpoint at FOLDER/home/nope",))
def home_without_the_model(folder: Path) -> Got:
    file = configured(folder, model={"name": "toy", "source": "path:~/nope"})
    return at_home(folder, lambda: load_config(file).check_source())


@case("source: path:~/model, empty", kind="boundary", expected="ModelError", says=("FOLDER/home/model",))
def home_of_a_model(folder: Path) -> Got:
    file = configured(folder)
    return at_home(folder, lambda: ModelFiles(load_config(file), folder, print).checkpoint)


@case("source: path:models/x, from the file", kind="boundary", expected="ConfigError", says=("configs/models/x",))
def relative_model(folder: Path) -> Got:
    file = configured(folder, model={"name": "toy", "source": "path:models/x"})
    return at_home(folder, lambda: load_config(file).check_source())


@case("source below the home of nobody", kind="boundary", expected="ConfigError", says=("~no-such-user/m",))
def unknown_home_of_a_model(folder: Path) -> Got:
    file = configured(folder, model={"name": "toy", "source": "path:~no-such-user/m"})
    return at_home(folder, lambda: ModelFiles(load_config(file), folder, print).checkpoint)


@case("prompts: ~/p.jsonl", kind="boundary", expected="accepted", says=("FOLDER/home/p.jsonl",))
def home_of_prompts(folder: Path) -> Got:
    file = configured(folder)
    return at_home(folder, lambda: load_config(file).resolve("~/p.jsonl"))


@case("--config=~/toy.yaml", kind="boundary", expected="accepted", says=("configs/toy.yaml",))
def home_of_a_configuration(folder: Path) -> Got:
    file = configured(folder)
    (folder / "home" / "toy.yaml").symlink_to(file)
    return at_home(folder, lambda: load_config(Path("~/toy.yaml")).path)


@case("a run named ~/runs/x", kind="boundary", expected="accepted", says=("FOLDER/home/runs/x",))
def home_of_a_run(folder: Path) -> Got:
    return at_home(folder, find_record, "~/runs/x", folder)


@case("configuration with a null character in its path", kind="boundary", expected="ConfigError", says=("null",))
def null_character_of_a_configuration(_: Path) -> Got:
    return attempt(load_config, Path("toy\0.yaml"))


@case("model with a name that no file can have", kind="boundary", expected="ConfigError", says=("--config FILE",))
def endless_model_name(folder: Path) -> Got:
    return attempt(find_config, "m" * 300, folder)


@case("calibration file that nobody may read", kind="boundary", expected="ConfigError", says=("c.jsonl", "denied"))
def calibration_of_somebody(folder: Path) -> Got:
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "c.jsonl").write_text("{}")
    engines = {"hf": {"precisions": ["fp32"], "quantization": {"calibration": "../theirs/c.jsonl"}}}
    file = configured(folder, engines=engines, model={"name": "toy", "source": "random:tiny"})
    config = load_config(file)
    with belonging_to_somebody(theirs, 0o000), unprivileged():
        return attempt(config.spec, "hf", "fp32")


@case(
    "history sqlite:///~/h.sqlite", kind="boundary", expected="ConfigError", says=("FOLDER/home/h.sqlite is a folder",)
)
def home_of_a_history(folder: Path) -> Got:
    (folder / "home" / "h.sqlite").mkdir(parents=True)
    return at_home(folder, check, "sqlite:///~/h.sqlite")


def left_alone(folder: Path, url: str) -> Got:
    """What checking a history gives, where it makes nothing."""
    got = attempt(check, url)
    made = [path.name for path in folder.iterdir()]
    return Got(f"made {made}", got.text) if made else got


@case("history in a folder that is not there yet", kind="boundary", expected="accepted")
def history_in_a_new_folder(folder: Path) -> Got:
    return left_alone(folder, f"sqlite:///{folder}/runs/x/h.sqlite")


@case("history in a folder that is not there yet, as SQLite's URI", kind="boundary", expected="accepted")
def history_uri_in_a_new_folder(folder: Path) -> Got:
    return left_alone(folder, f"sqlite:///file:{folder}/h.sqlite?uri=true")


@case("history below a link that leads nowhere", kind="boundary", expected="ConfigError", says=("cannot be used",))
def history_below_a_broken_link(folder: Path) -> Got:
    (folder / "runs").symlink_to(folder / "nowhere")
    return attempt(check, f"sqlite:///{folder}/runs/h.sqlite")


for uri in (
    "file:h3?mode=memory&uri=true",
    "file::memory:?uri=true",
    "file::memory:?cache=shared&uri=1",
    "file:?uri=true",
    "file:/h3?vfs=memdb&uri=yes",
):
    name = "history_in_memory_" + "_".join(re.findall(r"\w+", uri))

    def in_memory(_: Path, url: str = f"sqlite:///{uri}") -> Got:
        return attempt(check, url)

    in_memory.__name__ = name
    case(f"history sqlite:///{uri}", kind="boundary", expected="ConfigError", says=("in memory",))(in_memory)


@case("history file:x without uri=true, a folder", kind="boundary", expected="ConfigError", says=("is a folder",))
def history_named_like_a_uri(folder: Path) -> Got:
    (folder / "file:x").mkdir()
    here = Path.cwd()
    os.chdir(folder)
    try:
        return attempt(check, "sqlite:///file:x")
    finally:
        os.chdir(here)


@case("history as a web address", kind="boundary", expected="ConfigError", says=("'http' is no kind of database",))
def history_web_address(_: Path) -> Got:
    return without_psycopg_command("http://history.example.org")


@case(
    "history without the driver of MySQL", kind="boundary", expected="ConfigError", says=("module", "mysql+DRIVER://")
)
def history_mysql(_: Path) -> Got:
    return without_psycopg_command("mysql://host/name")


def without_psycopg_command(url: str) -> Got:
    """What checking a history gives, where it does not advise a driver of PostgreSQL."""
    got = attempt(check, url)
    return Got("advises psycopg", got.text) if "pip install 'psycopg" in got.text else got


@case("history without the driver of PostgreSQL", kind="boundary", expected="ConfigError", says=("psycopg[binary]",))
def history_postgresql(_: Path) -> Got:
    return attempt(check, "postgresql+psycopg3://host/name")


@case("history with an unknown dialect", kind="boundary", expected="ConfigError", says=("driver", "not installed"))
def history_dialect(_: Path) -> Got:
    return attempt(check, "postgre://host/name")


@case("history whose driver is not installed", kind="boundary", expected="ConfigError", says=("not installed",))
def history_driver(_: Path) -> Got:
    return attempt(check, "mysql+cymysql://host/name")


@case("history that is a file's name", kind="boundary", expected="ConfigError", says=("sqlite:///",))
def history_file_name(_: Path) -> Got:
    return attempt(check, "runs/history.sqlite")


@case("history with a password and a port that is a word", kind="boundary", expected="ConfigError", says=("***",))
def history_port(_: Path) -> Got:
    got = attempt(check, "postgresql://me:hunter2@host:port/name")
    return Got("shows the password", got.text) if "hunter2" in got.text else got


@case("history that is a folder", kind="boundary", expected="ConfigError", says=("is a folder", "history.sqlite"))
def history_folder(folder: Path) -> Got:
    return attempt(check, f"sqlite:///{folder}")


@case("history below a file", kind="boundary", expected="ConfigError", says=("cannot be used",))
def history_below_a_file(folder: Path) -> Got:
    (folder / "runs").write_text("no folder")
    return attempt(check, f"sqlite:///{folder}/runs/history.sqlite")


@case("history in /proc", kind="boundary", expected="ConfigError", says=("cannot be used",))
def history_in_proc(_: Path) -> Got:
    return attempt(check, "sqlite:////proc/nowhere/history.sqlite")


@case("history in a folder that is not ours", kind="boundary", expected="ConfigError", says=("denied",))
def history_not_ours(folder: Path) -> Got:
    with belonging_to_somebody(folder), unprivileged():
        return attempt(check, f"sqlite:///{folder}/history.sqlite")


@case("history that is no database", kind="boundary", expected="ConfigError", says=("not a database",))
def history_no_database(folder: Path) -> Got:
    (folder / "h.sqlite").write_text("run,speedup\n1,2.0\n" * 40)
    return attempt(check, f"sqlite:///{folder}/h.sqlite")


@case("history that is another program's database", kind="boundary", expected="ConfigError", says=("another's",))
def history_of_others(folder: Path) -> Got:
    with sqlite3.connect(folder / "h.sqlite") as connection:
        connection.execute("CREATE TABLE runs (number INTEGER, name TEXT)")
    return attempt(check, f"sqlite:///{folder}/h.sqlite")


@case("history in memory", kind="boundary", expected="ConfigError", says=("in memory",))
def history_in_memory(_: Path) -> Got:
    return attempt(check, "sqlite://")


class SmallBackend:
    """Builds a file."""

    name = "small"
    libraries = ()

    def version(self) -> str:
        return "1"

    def capabilities(self) -> Capabilities:
        return Capabilities({}, {}, "cpu")

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Any) -> None:
        (out_dir / "engine").write_text("small")

    def load(self, *_: Any) -> Any:
        raise NotImplementedError


class Score(Stored):
    value: float


def elsewhere(folder: Path, fill: Callable[[Path], Any], use: Callable[[Path], Any], mode: int = 0o755) -> Got:
    """What becomes of using a cache that somebody else has filled, and that this user may not write."""
    cache = folder / "cache"
    cache.mkdir()
    fill(cache)
    with belonging_to_somebody(cache, mode), unprivileged():
        return attempt(use, cache)


def engine(cache: Path) -> str:
    store = EngineStore(cache)
    try:
        return store.get(SPEC, Checkpoint(cache, "0" * 64, "here"), SmallBackend(), progress=print).manifest.backend
    finally:
        store.close()


def score(cache: Path) -> Score:
    return load_or_measure(cache / "quality" / "score.json", Score, lambda: Score(value=2.0))


def fetched(cache: Path) -> Path:
    """A model of the Hub, whose files need be none here."""

    def download(*_: Any, cache_dir: Path, **__: Any) -> str:
        place = Path(cache_dir) / "snapshot"
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (place / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        return str(place)

    with mock.patch("huggingface_hub.snapshot_download", download), unchecked():
        return resolve(HUB, cache=cache, progress=print).path


@contextmanager
def unchecked() -> Iterator[None]:
    """Meanwhile a checkpoint is not looked into."""
    with mock.patch.object(hub, "check_checkpoint"), mock.patch.object(sources, "check_whole"):
        yield


@case("engine in a read-only cache", kind="boundary", expected="accepted", says=("small",))
def engine_in_a_read_only_cache(folder: Path) -> Got:
    return elsewhere(folder, engine, engine)


@case("no engine in a read-only cache", kind="boundary", expected="StoreError", says=("cannot write to",))
def no_engine_in_a_read_only_cache(folder: Path) -> Got:
    return elsewhere(folder, lambda _: None, engine)


@case("cache of somebody else that nobody may look into", kind="boundary", expected="StoreError", says=("denied",))
def cache_of_somebody_else(folder: Path) -> Got:
    return elsewhere(folder, lambda _: None, lambda cache: engine(cache / "theirs"), 0o000)


@case("reference score in a read-only cache", kind="boundary", expected="accepted", says=("value=1.0",))
def score_in_a_read_only_cache(folder: Path) -> Got:
    def fill(cache: Path) -> None:
        load_or_measure(cache / "quality" / "score.json", Score, lambda: Score(value=1.0))

    return elsewhere(folder, fill, score)


@case("no reference score in a read-only cache", kind="boundary", expected="accepted", says=("value=2.0",))
def no_score_in_a_read_only_cache(folder: Path) -> Got:
    return elsewhere(folder, lambda cache: (cache / "quality").mkdir(), score)


@case("model of the Hub in a read-only cache", kind="boundary", expected="accepted", says=("snapshot",))
def model_in_a_read_only_cache(folder: Path) -> Got:
    return elsewhere(folder, fetched, fetched)


@case("model of the Hub in a cache that was moved", kind="boundary", expected="accepted", says=("moved/hub/snapshot",))
def model_in_a_moved_cache(folder: Path) -> Got:
    fetched(folder / "here")
    (folder / "here").rename(folder / "moved")
    offline = mock.patch("huggingface_hub.snapshot_download", side_effect=OSError("no network"))
    with offline, unchecked():
        return attempt(lambda: resolve(HUB, cache=folder / "moved", progress=print).path)
