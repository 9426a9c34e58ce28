"""The sides of a live race that were named: where their engines run, and what each of them is."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from enginegate.config.loading import Config, load_config
from enginegate.config.schema import base_variant
from enginegate.core.cache import Progress, exclusive, staged
from enginegate.core.errors import ConfigError, edge
from enginegate.core.files import expanded
from enginegate.core.specs import VARIANT_MARK, EngineSpec, RuntimeSpec
from enginegate.engines.base import Backend
from enginegate.engines.process.environments import environment
from enginegate.engines.process.foreign import ForeignBackend
from enginegate.engines.process.interpreter import HERE, Interpreter
from enginegate.engines.process.paths import PathMap
from enginegate.engines.registry import load_backend
from enginegate.plan.against import Against
from enginegate.plan.selection import Candidate


class NewEngineError(ConfigError):
    """The base has no such engine: there is nothing to compare with, and nothing wrong."""


@dataclass
class Base:
    """Where one side's engines run, and by which configuration: the base, or a head that was named like one.

    Attributes:
        against: what was asked for.
        config: its configuration; that of this checkout where it has no other.
        interpreter: the Python of its engines.
        notes: what its verdicts must say.
        commit: the commit that it is of; empty where it is of none.
    """

    against: Against
    config: Config
    interpreter: Interpreter = HERE
    notes: tuple[str, ...] = ()
    commit: str = ""
    _backends: dict[str, ForeignBackend] = field(default_factory=dict)

    def twin(self, candidate: Candidate) -> tuple[EngineSpec, RuntimeSpec]:
        """The base's engine of a candidate, under the name of a variant of it.

        Raises NewEngineError where the base's configuration has no such engine.
        """
        spec = candidate.spec
        section = self.config.file.engines.get(spec.backend)
        wanted = f"{spec.precision}{VARIANT_MARK}{spec.variant}" if spec.variant else spec.precision
        if section is None or (self.config is not candidate.config and wanted not in section.precisions):
            raise NewEngineError(
                f"{self.against} has no engine {spec.backend} {wanted}: it is new", "judge it by a floor, or accept it"
            )
        found = self.config.spec(spec.backend, spec.precision, spec.variant)
        return replace(found, variant=base_variant(spec.variant)), self.config.runtime(spec.backend, spec.variant)

    def backend(self, name: str) -> Backend:
        """The backend that builds and starts its engines."""
        if self.interpreter.here:
            return load_backend(name)
        if name not in self._backends:
            self._backends[name] = ForeignBackend(load_backend(name), self.interpreter, self.config.timeouts())
        return self._backends[name]


def prepare_base(against: Against, config: Config, root: Path, cache: Path, accepted: Path, progress: Progress) -> Base:
    """One side of a race of one model's engines, fetched or made where it is not there yet.

    Args:
        against: what was asked for.
        config: this checkout's configuration of the model.
        root: the project's root folder.
        cache: the cache folder.
        accepted: the lock of the environment whose figures were accepted.
        progress: told one line as a long step starts.

    Raises:
        EngineGateError: it is not there, or cannot be made; says which option asked for it.
    """
    with against.named():
        return _prepared(against, config, root, cache, accepted, progress)


def _prepared(against: Against, config: Config, root: Path, cache: Path, accepted: Path, progress: Progress) -> Base:
    if against.kind == "config":
        other = load_config(expanded(against.value))
        _check_same_model(config, other, against)
        return Base(against, other)
    if against.kind == "python":
        return Base(against, config, Interpreter((str(find_python(Path(against.value))),)))
    if against.kind == "exec":
        paths = PathMap.of(config.file.base.paths)
        return Base(against, config, Interpreter(tuple(shlex.split(against.value)), elsewhere=True, paths=paths))
    if against.kind == "git":
        return _of_commit(against, config, root, cache, progress)
    lock = expanded(against.value) if against.kind == "lock" else accepted
    if not lock.is_file():
        hint = "name a requirements file" if against.kind == "lock" else "run the suite, then `enginegate accept RUN`"
        raise ConfigError(f"{against}: there is no lock {lock}", hint)
    made = environment(lock, cache, progress=progress, limit=config.timeouts().limit("build"))
    return Base(against, config, Interpreter((str(made.python),)))


def find_python(path: Path) -> Path:
    """A Python by its path, or by that of its environment. Raises ConfigError where there is none."""
    path = expanded(path).absolute()
    for place in (path, path / "bin" / "python", path / "bin" / "python3"):
        if place.is_file() and os.access(place, os.X_OK):
            return place
    raise ConfigError(f"there is no Python at {path}", "name an interpreter, or the folder of an environment")


def _of_commit(against: Against, config: Config, root: Path, cache: Path, progress: Progress) -> Base:
    top = Path(_git(root, "rev-parse", "--show-toplevel", against=against))
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{against.value}^{{commit}}", against=against)
    folder = _exported(top, commit, cache, progress)
    notes = [f"adapters are this checkout's own on both sides, configuration and lock those of {commit[:10]}"]
    try:
        inside = config.path.relative_to(top.resolve())
    except ValueError:
        other, inside = config, None
        notes.append(f"{config.path.name} is not of this repository, and the same on both sides")
    if inside is not None:
        if not (folder / inside).is_file():
            raise ConfigError(
                f"{against} has no {inside}: there the model is not known", "take floors, or another commit"
            )
        other = load_config(folder / inside, config.path.parent)
        _check_same_model(config, other, against)
    lock = config.file.base.lock if inside is not None else ""  # a file of the configuration's own repository
    interpreter = HERE
    if lock:
        ours, theirs = (top / lock), (folder / lock)
        if not theirs.is_file():
            raise ConfigError(f"{against} has no {lock}", "name the lock of that commit under base.lock")
        if not ours.is_file() or ours.read_bytes() != theirs.read_bytes():
            made = environment(theirs, cache, progress=progress, limit=config.timeouts().limit("build"))
            interpreter = Interpreter((str(made.python),))
    else:
        said = "base.lock names no lock" if inside is not None else f"base.lock of {config.path.name} names none here"
        notes.append(f"{said}: both sides run in this Python")
    return Base(against, other, interpreter, tuple(notes), commit)


def _exported(top: Path, commit: str, cache: Path, progress: Progress) -> Path:
    """The tree of a commit, in the cache."""
    target = cache.absolute() / "commits" / commit
    if not target.is_dir():
        with exclusive(target, progress):
            if not target.is_dir():
                command = ["git", "-C", str(top), "archive", "--format=zip", commit]
                with edge(ConfigError, f"the files of commit {commit[:10]} cannot be had", "see `git fsck`"):
                    archive = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                with staged(target) as folder, zipfile.ZipFile(io.BytesIO(archive.stdout)) as files:
                    files.extractall(folder)
    return target


def _git(root: Path, *arguments: str, against: Against) -> str:
    if shutil.which("git") is None:
        raise ConfigError(f"{against}: git is not installed", "install it, or name another base")
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    if "--verify" in arguments:
        shallow = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--is-shallow-repository"], capture_output=True, text=True
        )
        hint = "correct the name; `git fetch origin` brings new ones"
        if shallow.stdout.strip() == "true":
            hint = f"this clone is shallow: `git fetch --depth 1 origin {against.value}` brings it"
        raise ConfigError(f"{against}: this repository has no commit {against.value!r}", hint)
    raise ConfigError(f"{against}: {root} is in no git repository: {done.stderr.strip()}", "name another base")


def _check_same_model(head: Config, base: Config, against: Against) -> None:
    ours, theirs = head.file.model, base.file.model
    if (ours.source, ours.sha256) != (theirs.source, theirs.sha256):
        raise ConfigError(
            f"{against} is of another model: {theirs.source}, this one is {ours.source}",
            "a live base has the same checkpoint, in another build",
        )
