"""Join the pieces below a folder and unpack them: unpack.py FOLDER TARGET."""

import compileall
import pathlib
import sys
import tarfile
import tempfile
import typing
import zipfile


class Pieces:
    """The pieces of an archive, read as one stream."""

    def __init__(self, paths: "list[pathlib.Path]") -> None:
        self._files = [path.open("rb") for path in paths]

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, from one piece at a time."""
        while self._files:
            data = self._files[0].read(size)
            if data:
                return data
            self._files.pop(0).close()
        return b""


def unzip(path: pathlib.Path, target: pathlib.Path) -> None:
    """Unpack a zip file; one that names a place outside itself is refused whole."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            place = pathlib.PurePosixPath(name.replace("\\", "/"))
            if place.is_absolute() or ".." in place.parts:
                raise SystemExit(f"{path} names a file outside itself, {name!r}: not unpacked; pack it again")
        archive.extractall(target)


def untar(stream: "typing.IO[bytes]", target: pathlib.Path) -> None:
    """Unpack a tar archive, plain files and links inside it alone; anything else is refused."""
    if not hasattr(tarfile, "data_filter"):
        version = ".".join(map(str, sys.version_info[:3]))
        raise SystemExit(f"Python {version} cannot unpack safely; use 3.10.12, 3.11.4 or a newer one")
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(target, filter="data")
    except tarfile.FilterError as error:
        raise SystemExit(f"the archive was refused: {error}; pack it again") from error


def main(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Unpack."""
    library = pathlib.Path(tempfile.mkdtemp())
    unzip(next(pathlib.Path(__file__).parent.glob("zstandard-*.whl")), library)
    sys.path.insert(0, str(library))
    import zstandard

    pieces = sorted(folder.rglob("piece.*"), key=lambda path: path.name)
    target.mkdir(parents=True, exist_ok=True)
    untar(zstandard.ZstdDecompressor().stream_reader(Pieces(pieces)), target)
    # A host that lets Python write no bytecode would have each process compile all that it imports.
    compileall.compile_dir(target, quiet=2, workers=0)
    print(f"{len(pieces)} pieces -> {target}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
