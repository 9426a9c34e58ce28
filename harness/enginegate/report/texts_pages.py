"""Two engines' texts beside each other, as Markdown and as one page of HTML. Pure functions of what ``texts`` found."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator

from enginegate.report.texts import Difference, Differences, Side

#: Before the token where two texts part, and for one that ends there.
MARK, ENDS = "▶", "▶ (ends here)"
#: Characters of a prompt that Markdown shows; HTML folds longer ones.
LONG_PROMPT = 400
#: Characters that turn the direction of what follows, also behind the text.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: What Markdown gives a meaning to: anywhere, and where a line begins.
_MARKDOWN, _BEGINNING = re.compile(r"([\\`*_\[\]|~$])"), re.compile(r"^(\s*)(?:([#+=-])|(\d+)([.)]))")


def texts_markdown(found: Differences, worst: int) -> str:
    """The ``worst`` items as Markdown; all for 0."""
    return "\n".join(_markdown(found, worst)) + "\n"


def texts_html(found: Differences, worst: int) -> str:
    """The same as one page of HTML that needs no other file."""
    return "\n".join(_html(found, worst)) + "\n"


def heading(found: Differences) -> str:
    """What is beside what."""
    return f"{found.metric}: {found.engines[0]} beside {found.engines[1]}"


def count(found: Differences, worst: int) -> str:
    """How many texts there are, how many are equal, and how many are shown."""
    shown = len(_worst(found, worst))
    told = f"{found.items} prompts, {found.equal} with equal texts, {len(found.found)} with different ones"
    if not found.found:
        return f"{told}."
    most = "all of them" if shown == len(found.found) else f"{shown} of them"
    return f"{told}. Shown: {most}, the least alike first, with the first token that differs marked."


def _worst(found: Differences, worst: int) -> tuple[Difference, ...]:
    return found.found[: worst or None]


def _told(item: Difference) -> str:
    scores = ", ".join(f"{name} {score:.1f}" for name, score in item.scores.items())
    return f"{scores}; {item.common} tokens in common, of {item.sides[0].tokens} and {item.sides[1].tokens}"


def visible(text: str) -> str:
    """A text whose control characters can be seen, but for line ends and tabs, and steer nothing."""
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char in "\n\t":
        return char
    if ord(char) < 0x20:
        return chr(0x2400 + ord(char))  # the picture of a control character
    steers = char in _TURNING or unicodedata.category(char) in ("Cc", "Cs")
    return f"\\u{ord(char):04x}" if steers else char


def _markdown(found: Differences, worst: int) -> Iterator[str]:
    yield f"# {_plain(heading(found))}\n"
    yield f"Run {_plain(found.run)}. {count(found, worst)}"
    for number, item in enumerate(_worst(found, worst), 1):
        yield f"\n## {number}. {_plain(item.item)}\n"
        yield f"{_told(item)}\n"
        prompt = item.prompt.strip()
        rest = f" … ({len(prompt) - LONG_PROMPT} more characters)" if len(prompt) > LONG_PROMPT else ""
        yield f"Prompt:\n\n> {_plain(prompt[:LONG_PROMPT])}{rest}"
        for name, side in zip(found.engines, item.sides, strict=True):
            yield f"\n{_plain(name)}:\n\n> {_marked(side)}"


def _marked(side: Side) -> str:
    """A text within a quotation. Bold by HTML, as two stars make nothing bold inside a word."""
    before, token, after = _around(side)
    mark = ENDS if not side.mark else f"{MARK}{_plain(token)}"
    return f"{_plain(before)}<b>{mark}</b>{_plain(after)}"


def _around(side: Side) -> tuple[str, str, str]:
    """What stands before the mark, in it and behind it. A space before a word is left out, and a mere space is seen."""
    if not side.mark:
        return f"{side.before} ", "", ""
    if not side.mark.strip():
        signs = "".join({"\n": "⏎", "\t": "⇥"}.get(char, "␣") for char in side.mark)
        return side.before, signs, side.mark + side.after
    token = side.mark.lstrip()
    return side.before + side.mark[: len(side.mark) - len(token)], token, side.after


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line of its source."""
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(visible(text), quote=False))
    escaped = _BEGINNING.sub(lambda found: f"{found[1]}{found[3] or ''}\\{found[2] or found[4]}", escaped)
    return re.sub(r" (?= )", "&nbsp;", escaped.replace("\t", "&emsp;").replace("\n", "<br>"))


_STYLE = """
:root { color-scheme: light dark; --line: #d0d5dd; --soft: #667085; --mark: #ffd54a; --ink: #101828; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --line: #344054; --soft: #98a2b3; --mark: #b98900; --ink: #f2f4f7; --page: #101828; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 0; }
article { border-top: 1px solid var(--line); padding: 1.2rem 0; }
.soft { color: var(--soft); } .sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 48rem) { .sides { grid-template-columns: 1fr; } }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 0; }
section { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem; }
section > h3 { font-size: .85rem; margin: 0; color: var(--soft); }
mark { background: var(--mark); color: inherit; border-radius: .2rem; padding: 0 .1rem; }
.ends { font-size: .85em; } .prompt { margin-bottom: .8rem; } summary { color: var(--soft); cursor: pointer; }
"""


def _html(found: Differences, worst: int) -> Iterator[str]:
    title = html.escape(visible(heading(found)))
    yield f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    yield f"<p>Run <code>{html.escape(visible(found.run))}</code>. {html.escape(count(found, worst))}</p>"
    yield from articles(found, worst)
    yield "</body>\n</html>"


def articles(found: Differences, worst: int, level: int = 2) -> Iterator[str]:
    """The ``worst`` items as HTML, each under a heading of that level; all for 0."""
    inner = level + 1
    for number, item in enumerate(_worst(found, worst), 1):
        name = html.escape(visible(item.item))
        yield f'<article>\n<h{level}>{number}. <code>{name}</code></h{level}>\n<p class="soft">{_told(item)}</p>'
        yield _prompt(item.prompt.strip(), inner)
        yield '<div class="sides">'
        for name, side in zip(found.engines, item.sides, strict=True):
            side_name = html.escape(visible(name))
            yield f'<section><h{inner}>{side_name}</h{inner}><pre dir="auto">{_html_side(side)}</pre></section>'
        yield "</div>\n</article>"


def _prompt(prompt: str, level: int) -> str:
    text = f'<pre dir="auto">{html.escape(visible(prompt))}</pre>'
    if len(prompt) <= LONG_PROMPT:
        return f'<section class="prompt"><h{level}>prompt</h{level}>{text}</section>'
    begin = html.escape(visible(" ".join(prompt[:80].split())))
    return f'<details class="prompt"><summary>prompt: {begin} …</summary>{text}</details>'


def _html_side(side: Side) -> str:
    before, token, after = (html.escape(visible(part)) for part in _around(side))
    mark = f"<mark>{token}</mark>" if side.mark else '<mark class="ends">ends here</mark>'
    return f"{before}{mark}{after}"
