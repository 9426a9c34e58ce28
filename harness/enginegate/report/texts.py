"""The texts in which two engines of a run differ most, the token marked where they part. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from enginegate.core.errors import ConfigError
from enginegate.core.records import TextEntry
from enginegate.quality.text import common_length
from enginegate.storage.texts import MetricTexts

#: What stands for the texts that answers are compared with, where an engine is named.
REFERENCE = "reference"
#: The score of equal texts.
FULL = 100.0


@dataclass(frozen=True)
class Side:
    """One of two texts.

    Attributes:
        before: what both begin with.
        mark: the first token that differs; empty where the text ends there.
        after: the rest.
        tokens: how many it has, or words where no engine wrote it.
    """

    before: str
    mark: str
    after: str
    tokens: int


@dataclass(frozen=True)
class Difference:
    """One prompt and the two texts that it led to.

    Attributes:
        item: hash of the item.
        prompt: what was asked.
        sides: the two texts, in the order of the engines.
        common: how many tokens they begin with in common.
        scores: how much they are alike, by the score's name; the first one sorts.
    """

    item: str
    prompt: str
    sides: tuple[Side, Side]
    common: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Differences:
    """What two engines wrote.

    Attributes:
        run, metric: where.
        engines: the names of the two.
        items: how many prompts both answered.
        equal: how many of them with the same text.
        found: the others, the least alike first.
    """

    run: str
    metric: str
    engines: tuple[str, str]
    items: int
    equal: int
    found: tuple[Difference, ...]


#: How much two texts are alike, from 0 to FULL, by the score's name.
Score = Callable[[str, str], Mapping[str, float]]


def differences(run: str, metric: str, texts: MetricTexts, engines: tuple[str, str], score: Score) -> Differences:
    """The items that both engines answered and not with one text, sorted by the first score, then by what is common."""
    one, other = (_written(texts, name) for name in engines)
    shared = sorted(one.keys() & other.keys())
    found = [
        Difference(item, texts.prompts[item], *part(one[item], other[item]), score(one[item].text, other[item].text))
        for item in shared
        if one[item].text != other[item].text
    ]
    found.sort(key=lambda each: (next(iter(each.scores.values())), each.common, each.item))
    return Differences(run, metric, engines, len(shared), len(shared) - len(found), tuple(found))


def part(one: TextEntry, other: TextEntry) -> tuple[tuple[Side, Side], int]:
    """Two texts cut where they part, and how many tokens are before that; words where one of them has no tokens."""
    by_token = bool(one.tokens or not one.text) and bool(other.tokens or not other.text)
    pieces = [_tokens(each) if by_token else _words(each) for each in (one, other)]
    common = common_length(*([piece for piece, _ in each] for each in pieces))
    first, second = (_side(text.text, ends, common) for text, ends in zip((one, other), pieces, strict=True))
    return (first, second), common


def _tokens(text: TextEntry) -> list[tuple[object, int]]:
    return list(zip(text.tokens, text.ends, strict=True))


def _words(text: TextEntry) -> list[tuple[object, int]]:
    return [(match[0], match.end()) for match in re.finditer(r"\s*\S+|\s+$", text.text)]


def _side(text: str, pieces: Sequence[tuple[object, int]], common: int) -> Side:
    start = pieces[common - 1][1] if common else 0
    # a token that ends inside a character adds nothing by itself
    end = next((end for _, end in pieces[common:] if end > start), start)
    return Side(text[:start], text[start:end], text[end:], len(pieces))


def names(texts: MetricTexts) -> list[str]:
    """Who wrote texts: the engines, and the reference."""
    return [*texts.answers, *([REFERENCE] if texts.references else [])]


def resolve(name: str, texts: MetricTexts) -> str:
    """The engine that a name or the end of one means, such as ``int8_wo``. Raises ConfigError for none or several."""
    known = names(texts)
    found = [each for each in known if each == name] or [each for each in known if each.endswith(f"-{name}")]
    if len(found) == 1:
        return found[0]
    reason = f"it means {' and '.join(found)}" if found else f"there are {', '.join(known)}"
    raise ConfigError(f"{name!r} is no one engine with texts: {reason}", "name two of them: --engines A,B")


def least_alike(texts: MetricTexts, score: Score) -> tuple[str, str]:
    """The two that differ most, of those that engines wrote: by the mean of the first score.

    Raises ConfigError where there are no two.
    """
    known = names(texts)
    by_engine = [name for name in known if any(text.tokens for text in _written(texts, name).values())]
    pairs = list(combinations(by_engine if len(by_engine) > 1 else known, 2))
    if not pairs:
        raise ConfigError(
            f"there are texts of {', '.join(known) or 'nobody'} alone, and none to lay beside them",
            "test two engines in one session",
        )
    one, other = min(pairs, key=lambda pair: _likeness(texts, pair, score))
    return (other, one) if other == REFERENCE else (one, other)


def _likeness(texts: MetricTexts, pair: tuple[str, str], score: Score) -> float:
    """The mean of the first score over the items that both answered; equal texts count in full."""
    one, other = (_written(texts, name) for name in pair)
    shared = ((one[item].text, other[item].text) for item in one.keys() & other.keys())
    alike = [FULL if first == second else next(iter(score(first, second).values())) for first, second in shared]
    return fmean(alike) if alike else FULL


def _written(texts: MetricTexts, name: str) -> Mapping[str, TextEntry]:
    return texts.references if name == REFERENCE else texts.answers[name]
