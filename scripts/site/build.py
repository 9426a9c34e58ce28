"""Build the documentation site: `make site`.

    python scripts/site/build.py [FOLDER]

Writes the pages into FOLDER (default: build/site), ``index.html`` first. They need no network and no server. Every
warning of Sphinx, every page that is missing in ``docs/navigation.yaml``, every dead link and everything that would be
fetched from another host is an error.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import reference
from check import faults
from navigation import MADE, home, read_navigation

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
#: Pictures below docs/ lie beside the pages; its other files are copied where a link names them.
PICTURE = frozenset({".svg", ".png"})
#: What every built site has from the first moment on.
MARK = "schemas/config.schema.json"


def stage(source: Path, repository: Path) -> None:
    """Lay the pages out for Sphinx as they lie in the repository, with those that are made beside those of docs/.

    Raises SystemExit for a page that the navigation lacks, or has and is not there.
    """
    sections = read_navigation(repository)
    for name in (name for section in sections for name in section.pages):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(MADE):
            target.write_text(reference.PAGES[name.removeprefix(MADE)](repository), encoding="utf-8")
        else:
            shutil.copy(repository / name, target)
    for file in (repository / "docs").rglob("*"):
        if file.suffix in PICTURE:
            target = source / file.relative_to(repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (source / "index.rst").write_text(home(sections), encoding="utf-8")
    shutil.copy(HERE / "conf.py", source)
    (source / "_static").mkdir()
    shutil.copy(HERE / "site.css", source / "_static")


def build(site: Path, repository: Path = REPOSITORY) -> int:
    """Build into the folder, which is emptied first; the exit code.

    Raises SystemExit where Sphinx is not installed, or the folder holds something else than a site.
    """
    if importlib.util.find_spec("sphinx") is None:
        raise SystemExit("Sphinx is not installed, which builds the site; hint: make site, or pip install -e '.[site]'")
    if site.exists() and any(site.iterdir()) and not (site / MARK).is_file():
        raise SystemExit(f"{site} is not empty and holds no site that could be replaced; hint: name another folder")
    import repository_files
    from enginegate.cli.schema import schema_text
    from sphinx.cmd.build import build_main

    repository_files.REPOSITORY = repository
    shutil.rmtree(site, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        source, memory = Path(temporary, "source"), Path(temporary, "doctrees")
        source.mkdir()
        stage(source, repository)
        (site / "schemas").mkdir(parents=True)
        for what in ("config", "record"):
            (site / "schemas" / f"{what}.schema.json").write_text(f"{schema_text(what)}\n", encoding="utf-8")
        code = build_main(["-q", "-W", "--keep-going", "-b", "html", "-d", str(memory), str(source), str(site)])
    found = faults(site)
    for each in found:
        print(each, file=sys.stderr)
    return code or int(bool(found))


if __name__ == "__main__":
    if len(sys.argv) > 2 or "-h" in sys.argv or "--help" in sys.argv:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else REPOSITORY / "build" / "site")
    code = build(folder)
    if code == 0:
        print(f"the site is in {folder}: open {folder / 'index.html'} in a browser")
    raise SystemExit(code)
