"""Links of every page and notebook: to files, to headings, to the outside."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_text import NOTEBOOKS, PAGES, REPOSITORY, anchors, links, markdown

#: A page of this very project on the service that it is published by.
OWN = re.compile(r"/[\w.-]+/enginegate(?:/(?P<kind>blob|tree|raw|edit)/[^/]+/(?P<path>.+))?")


def fault(page: Path, target: str) -> str:
    """What is wrong with a link on ``page``; empty where it leads somewhere."""
    if target.startswith("["):
        return "nothing defines it"
    parts = urlsplit(target)
    if parts.scheme == "mailto":
        return "" if re.fullmatch(r"[^@\s]+@[\w-]+(\.[\w-]+)+", parts.path) else "no address"
    if parts.scheme or parts.netloc:
        return _outside(parts.scheme, parts.netloc, parts.path)
    if parts.path.startswith("/"):
        return "absolute: no reader has this folder"
    found = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not found.is_relative_to(REPOSITORY):
        return "outside of the repository"
    if not found.exists():
        return "no such file"
    if parts.fragment and found.suffix in (".md", ".ipynb") and unquote(parts.fragment) not in anchors(found):
        return "no such heading"
    return ""


def _outside(scheme: str, host: str, path: str) -> str:
    if scheme != "https":
        return "not https"
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?", host):
        return "no host"
    own = OWN.fullmatch(path) if host in ("github.com", "gitlab.com") else None
    if own and own["path"] and not (REPOSITORY / unquote(own["path"])).exists():
        return "no such file in this repository"
    return ""


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    faults = {target: fault(page, target) for target in links(markdown(page))}
    assert {target: reason for target, reason in faults.items() if reason} == {}


WRONG = """
# Once

[file](none.md), [heading](other.md#none), ![picture](none.png), [absolute](/etc/hosts), [up](../../none)
[reference][missing], [short][], <a href="none.html">html</a>, <img src='none.svg'>
[plain](http://example.org), <ftp://example.org/x>, [host](https://nowhere), https://github.com/x/enginegate/blob/main/no
[twice](other.md#twice-2), [titled](none.txt "a title")

[defined]: none-defined.md
"""
RIGHT = """
[file](other.md), [heading](other.md#twice), [second](other.md#twice-1), [code](other.md#a-b_c)
[by hand](other.md#here)
[a reference][x], [x][], <https://example.org/a_b>, [spaced](<other.md> 'title'), [![badge](p.png)](other.md)
`[no](link.md)`, <!-- [hidden](none.md) -->
[under](other.md#underlined), [linked](other.md#see-this-page), [mail](mailto:a@example.org)

    [no](link.md) in code

```text
[no](link.md)
```

[x]: other.md#twice
"""
OTHER = """
# Twice

# Twice

## `a-b_c`

<a id="here"></a>

Underlined
----------

### See [this page](other.md)

```python
# no heading
```
"""


def test_what_is_wrong_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("test_docs_links.REPOSITORY", tmp_path)
    (tmp_path / "other.md").write_text(OTHER, encoding="utf-8")
    (tmp_path / "p.png").write_bytes(b"")
    page = tmp_path / "page.md"
    page.write_text(WRONG, encoding="utf-8")
    faults = {target: fault(page, target) for target in links(WRONG)}
    assert all(faults.values()), [target for target, reason in faults.items() if not reason]
    assert len(faults) == 16
    page.write_text(RIGHT, encoding="utf-8")
    faults = {target: fault(page, target) for target in links(RIGHT)}
    assert not any(faults.values()), {target: reason for target, reason in faults.items() if reason}
    assert anchors(tmp_path / "other.md") == {
        "twice", "twice-1", "a-b_c", "here", "underlined", "see-this-page",
    }  # fmt: skip
