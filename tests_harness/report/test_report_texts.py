"""The texts in which two engines differ most: where they part, which come first, and that they are safe to show."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from enginegate.core.errors import ConfigError
from enginegate.core.records import TextEntry
from enginegate.report.texts import REFERENCE, Differences, differences, least_alike, names, part, resolve
from enginegate.report.texts_pages import LONG_PROMPT, texts_html, texts_markdown, visible
from enginegate.storage.texts import MetricTexts
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt


def written(*tokens: str) -> TextEntry:
    """A text of these tokens; a token's id is that of its text."""
    ends, text = [], ""
    for token in tokens:
        text += token
        ends.append(len(text))
    return TextEntry(text=text, tokens=[sum(map(ord, token)) for token in tokens], ends=ends)


SUN = written("The", " sun", " is", " up", ".")


def shared_words(one: str, other: str) -> dict[str, float]:
    first, second = set(one.split()), set(other.split())
    return {"alike": 100.0 * len(first & second) / len(first | second) if first | second else 100.0}


def texts(**answers: dict[str, TextEntry]) -> MetricTexts:
    items = {item for found in answers.values() for item in found}
    reference = answers.pop(REFERENCE, {})
    prompts = {item: f"prompt {item}" for item in sorted(items)}
    return MetricTexts(prompts=prompts, references=reference, answers={f"m-{k}": v for k, v in answers.items()})


@pytest.mark.parametrize(
    ("other", "before", "mark", "after"),
    [
        (written("The", " sun", " sets", "."), "The sun", " sets", "."),
        (written("The", " sun"), "The sun", "", ""),
        (written(), "", "", ""),
        (written("A", " sun"), "", "A", " sun"),
        (written("The", " sun", " is", " up", ".", "\n", "It"), "The sun is up.", "\n", "It"),
    ],
)
def test_texts_are_cut_at_the_first_token_that_differs(other: TextEntry, before: str, mark: str, after: str) -> None:
    (_, side), common = part(SUN, other)
    assert (side.before, side.mark, side.after) == (before, mark, after)
    assert side.before + side.mark + side.after == other.text
    assert common == sum(end <= len(before) for end in other.ends)


def test_tokens_that_end_inside_a_character_are_marked_by_the_whole_of_it() -> None:
    snow = TextEntry(text="a ☃!", tokens=[1, 7, 8, 9, 3], ends=[2, 2, 2, 3, 4])
    rain = TextEntry(text="a ☂!", tokens=[1, 7, 8, 5, 3], ends=[2, 2, 2, 3, 4])
    (one, other), common = part(snow, rain)
    assert (one.before, one.mark, one.after) == ("a ", "☃", "!")
    assert (other.before, other.mark, common) == ("a ", "☂", 3)


def test_a_text_of_a_person_is_compared_word_by_word() -> None:
    (one, other), common = part(TextEntry(text="The sun  is down."), SUN)
    assert (one.before, one.mark, one.after) == ("The sun", "  is", " down.")
    assert (other.before, other.mark, common) == ("The sun", " is", 2)


pieces = st.lists(st.sampled_from(["a", " b", "\n", " ", "*", "<", "ç"]), max_size=6)


@given(pieces, pieces, st.booleans())
def test_nothing_of_a_text_is_lost(first: list[str], second: list[str], by_token: bool) -> None:
    one, other = written(*first), written(*second)
    if not by_token:
        one = TextEntry(text=one.text)
    (left, right), _ = part(one, other)
    assert left.before + left.mark + left.after == one.text
    assert right.before + right.mark + right.after == other.text
    assert left.before == right.before
    if one.text != other.text:
        assert left.mark != right.mark


THREE = texts(
    reference={"i1": SUN, "i2": SUN, "i3": SUN},
    int8={"i1": SUN, "i2": written("The", " sun", " sets"), "i3": SUN},
    int4={"i1": written("No"), "i2": written("The", " sun", " sets"), "i3": written("The", " sun", " is"), "i9": SUN},
)


def test_the_least_alike_come_first_and_equal_ones_are_counted() -> None:
    found = differences("run", "similarity", THREE, (REFERENCE, "m-int4"), shared_words)
    assert [each.item for each in found.found] == ["i1", "i2", "i3"]
    assert (found.items, found.equal) == (3, 0), "i9 has no other text"
    found = differences("run", "similarity", THREE, ("m-int8", "m-int4"), shared_words)
    assert [each.item for each in found.found] == ["i1", "i3"]
    assert found.equal == 1
    assert found.found[0].prompt == "prompt i1"


def test_the_two_that_differ_most_are_taken_where_none_are_named() -> None:
    assert least_alike(THREE, shared_words) == (REFERENCE, "m-int4")
    human = THREE.model_copy(update={"references": {"i1": TextEntry(text="Nothing alike")}})
    assert least_alike(human, shared_words) == ("m-int8", "m-int4"), "people are not among the engines"
    alone = human.model_copy(update={"answers": {"m-int8": {"i1": SUN}}})
    assert least_alike(alone, shared_words) == (REFERENCE, "m-int8")
    with pytest.raises(ConfigError, match=r"texts of m-int8 alone"):
        least_alike(alone.model_copy(update={"references": {}}), shared_words)


def test_engines_are_named_by_what_their_ids_end_in() -> None:
    known = texts(**{"a-int8_wo": {}, "b-int8_wo": {}, "b-bf16": {}})
    assert resolve("bf16", known) == resolve("m-b-bf16", known) == "m-b-bf16"
    assert resolve("a-int8_wo", known) == "m-a-int8_wo"
    for name, said in (("int8_wo", "it means m-a-int8_wo and m-b-int8_wo"), ("wo", "there are m-a-int8_wo, m-b")):
        with pytest.raises(ConfigError, match=f"'{name}' is no one engine with texts: {said}"):
            resolve(name, known)
    assert REFERENCE not in names(known)


HOSTILE = "<script>alert(1)</script> & *b* `c` | [x](y) \x1b[31m \u202e\n\n# no heading\t$x$"


def hostile() -> Differences:
    one, other = TextEntry(text=f"Same {HOSTILE}"), TextEntry(text=f"Same not {HOSTILE}")
    found = MetricTexts(
        prompts={"<i>": HOSTILE * 20}, references={"<i>": one}, answers={"m-<b>x</b>-int8": {"<i>": other}}
    )
    return differences("<run>", "similarity", found, (REFERENCE, "m-<b>x</b>-int8"), shared_words)


class Page(HTMLParser):
    """The tags of a page, and the text in those that hold one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.within: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1] if self.tags else ""
        self.within[tag] = self.within.get(tag, "") + data


def test_a_page_shows_texts_as_they_are_and_runs_nothing_of_them() -> None:
    page = texts_html(hostile(), 0)
    parsed = Page(page)
    assert set(parsed.tags) <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "code"),
        *("article", "section", "details", "summary", "div", "pre", "mark"),
    }
    assert "<script>alert(1)</script> & *b* `c`" in parsed.within["pre"]
    assert (parsed.tags.count("mark"), parsed.within["title"].strip()) == (
        2,
        "similarity: reference beside m-<b>x</b>-int8",
    )
    assert "src=" not in page
    assert "http" not in page, "it needs no other file"
    assert "\x1b" not in page
    assert "\u202e" not in page
    for tag in ("article", "section", "details", "div", "pre", "mark", "body", "html"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>"), tag


def test_markdown_shows_texts_as_they_are() -> None:
    page = texts_markdown(hostile(), 0)
    markdown = MarkdownIt("commonmark").render(page)
    parsed = Page(markdown)
    assert set(parsed.tags) <= {"h1", "h2", "p", "blockquote", "br", "b"}
    assert markdown.count("<b>▶") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; *b* `c` | [x](y) ␛[31m" in markdown
    assert f"… ({len((HOSTILE * 20).strip()) - LONG_PROMPT} more characters)" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_marks_are_seen_in_both() -> None:
    found = differences("run", "similarity", THREE, ("m-int8", "m-int4"), shared_words)
    page, text = texts_html(found, 0), texts_markdown(found, 0)
    assert '<pre dir="auto"><mark>The</mark> sun is up.</pre>' in page
    assert '<pre dir="auto">The sun is<mark> up</mark>' not in page, "the space before a word is not marked"
    assert '<pre dir="auto">The sun is <mark>up</mark>.</pre>' in page
    assert '<pre dir="auto">The sun is <mark class="ends">ends here</mark></pre>' in page
    assert "> The sun is <b>▶up</b>." in text
    assert "> The sun is <b>▶ (ends here)</b>" in text
    newline = texts(a={"i": written("a", "\n", "b")}, b={"i": written("a", "b")})
    found = differences("run", "similarity", newline, ("m-a", "m-b"), shared_words)
    assert "a<mark>⏎</mark>\nb" in texts_html(found, 0)
    assert "a<b>▶⏎</b><br>b" in texts_markdown(found, 0)


def test_so_many_are_shown_as_were_asked_for() -> None:
    found = differences("run", "similarity", THREE, (REFERENCE, "m-int4"), shared_words)
    for worst, shown, told in ((1, 1, "1 of them"), (2, 2, "2 of them"), (3, 3, "all of them"), (0, 3, "all of them")):
        for page in (texts_html(found, worst), texts_markdown(found, worst)):
            assert len(re.findall(r"^(?:## |<h2>)\d\. ", page, re.MULTILINE)) == shown
            assert f"3 prompts, 0 with equal texts, 3 with different ones. Shown: {told}" in page
    equal = differences("run", "similarity", THREE, (REFERENCE, REFERENCE), shared_words)
    assert "3 prompts, 3 with equal texts, 0 with different ones." in texts_markdown(equal, 10)


@given(st.text())
def test_what_is_shown_steers_nothing(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or ord(char) >= 0x20 for char in shown)
    assert not set(shown) & set("\x7f\x9b\u202e\u2066")
