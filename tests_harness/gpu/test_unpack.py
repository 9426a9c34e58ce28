"""What is unpacked on a GPU host stays in its folder."""

from __future__ import annotations

import io
import runpy
import tarfile
import zipfile
from pathlib import Path

import pytest

UNPACK = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "gpu" / "unpack.py"), run_name="unpack")


def archive(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """A tar archive of (name, type, link)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o755
            info.size = 2 if kind == tarfile.REGTYPE else 0
            packed.addfile(info, io.BytesIO(b"ok"))
    stream.seek(0)
    return stream


def test_plain_files_keep_their_place_and_may_be_run(tmp_path):
    UNPACK["untar"](archive(("bin", tarfile.DIRTYPE, ""), ("bin/tool", tarfile.REGTYPE, "")), tmp_path)
    assert (tmp_path / "bin" / "tool").read_bytes() == b"ok"
    assert (tmp_path / "bin" / "tool").stat().st_mode & 0o100


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.LNKTYPE, "../outside"),
        ("device", tarfile.CHRTYPE, ""),
    ],
)
def test_what_reaches_outside_is_refused(tmp_path, member):
    """Formerly the archive was unpacked without a filter."""
    target = tmp_path / "target"
    with pytest.raises(SystemExit, match="refused"):
        UNPACK["untar"](archive(member), target)
    assert not (tmp_path / "outside").exists()
    assert list(target.glob("*")) == []


def test_a_python_without_the_filter_is_refused_with_what_to_take(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(SystemExit, match=r"use 3\.10\.12, 3\.11\.4"):
        UNPACK["untar"](archive(("a", tarfile.REGTYPE, "")), tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\\..\\..\\outside"])
def test_a_zip_that_reaches_outside_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("good", "ok")
        packed.writestr(name, "bad")
    with pytest.raises(SystemExit, match="outside itself"):
        UNPACK["unzip"](tmp_path / "a.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()
