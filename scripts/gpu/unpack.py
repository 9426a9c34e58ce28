"""Join the pieces below a folder and unpack them: unpack.py FOLDER TARGET."""

import compileall
import pathlib
import sys
import tarfile
import tempfile
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


def main(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Unpack."""
    library = tempfile.mkdtemp()
    zipfile.ZipFile(next(pathlib.Path(__file__).parent.glob("zstandard-*.whl"))).extractall(library)
    sys.path.insert(0, library)
    import zstandard

    pieces = sorted(folder.rglob("piece.*"), key=lambda path: path.name)
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=zstandard.ZstdDecompressor().stream_reader(Pieces(pieces)), mode="r|") as archive:
        archive.extractall(target)
    # A host that lets Python write no bytecode would have each process compile all that it imports.
    compileall.compile_dir(target, quiet=2, workers=0)
    print(f"{len(pieces)} pieces -> {target}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
