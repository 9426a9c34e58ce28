"""Sphinx extension: links of pages to files of the repository lead to copies of them, which lie beside the pages.

So the pages are written for whoever reads them in the repository, and the site needs no network. A folder becomes a
list of its files.
"""

from __future__ import annotations

import html
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

REPOSITORY = Path(__file__).resolve().parents[2]
#: Folder of the copies in the site.
FILES = "files"


class RepositoryFiles(SphinxTransform):
    """Turns links to files that are no pages into plain references, before Sphinx looks for pages behind them."""

    default_priority = 1

    def apply(self, **_: Any) -> None:
        """Replace the links of one page."""
        page = Path(self.env.docname)
        links = [*self.document.findall(addnodes.pending_xref), *self.document.findall(addnodes.download_reference)]
        for node in links:
            if node.get("reftype") != "myst" or node.get("refdomain") == "doc":
                continue
            wanted = Path(os.path.normpath(page.parent / unquote(node["reftarget"].partition("#")[0])))
            if wanted.is_absolute() or ".." in wanted.parts or not (REPOSITORY / wanted).exists():
                continue  # Sphinx says that it leads nowhere
            target = copy(wanted, Path(self.app.outdir))
            up = "../" * (len(page.parts) - 1)
            link = nodes.reference("", "", *node.children, refuri=f"{up}{quote(target.as_posix())}", internal=True)
            node.replace_self(link)


def copy(wanted: Path, site: Path) -> Path:
    """Copy a file or folder of the repository into the site; where it is now, from the site's root."""
    source, target = REPOSITORY / wanted, Path(FILES) / wanted
    if source.is_dir():
        shutil.copytree(source, site / target, dirs_exist_ok=True)
        names = sorted(each.relative_to(source).as_posix() for each in source.rglob("*") if each.is_file())
        rows = "\n".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names)
        target = target / "index.html"
        title = html.escape(wanted.as_posix())
        (site / target).write_text(LISTING.format(title=title, rows=rows), encoding="utf-8")
    else:
        (site / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, site / target)
    return target


LISTING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body style="font-family: sans-serif"><h1>{title}</h1>
<ul>
{rows}
</ul></body></html>
"""


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_transform(RepositoryFiles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
