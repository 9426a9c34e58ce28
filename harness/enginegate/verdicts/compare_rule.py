"""What a comparison is asked for: which benchmarks, which margins, and under which other names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from enginegate.core.errors import ConfigError
from enginegate.verdicts.sources import Series, StoredSession

#: What the pattern of a margin may be for; the first that fits counts.
_KINDS = ("bench", "group", "metric", "")
#: How many names an error lists.
_SHOWN = 5


@dataclass(frozen=True)
class Margin:
    """A slowdown that is no regression, for what its pattern names.

    Attributes:
        share: the slowdown, twice of which must not pass.
        kind: what the pattern names: ``bench``, ``group`` or ``metric``; empty where it is for all.
        pattern: a whole name, in which ``*`` stands for any text and ``?`` for one character.
    """

    share: float
    kind: str = ""
    pattern: str = "*"

    def fits(self, benchmark: str, metric: str, group: str) -> bool:
        """Whether it is for this benchmark and metric; a benchmark without a group is in none."""
        if self.kind == "":
            return True
        name = {"bench": benchmark, "group": group, "metric": metric}[self.kind]
        return name != "" and matches(self.pattern, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.pattern}" if self.kind else "all"


@dataclass(frozen=True)
class Rule:
    """How much worse is a regression, how sure to be, and what takes part.

    Attributes:
        margins: slowdowns that are no regression. One for a benchmark counts before one for its group, that before one
            for its metric, and that before one for all; of two of one kind the later counts. Where none fits:
            ``gates.speed`` of the configuration that the new record keeps, or its defaults where there is none. Quality
            and memory are always judged by it.
        alpha: probability of a false regression, for each benchmark.
        metrics: limits what is compared; empty for all.
        filters: patterns of the benchmarks that take part; empty for all.
        across_machines: judge, although sessions ran on different machines or were timed by different clocks.
    """

    margins: tuple[Margin, ...] = ()
    alpha: float = 0.01
    metrics: frozenset[str] = frozenset()
    filters: tuple[str, ...] = ()
    across_machines: bool = False

    def wants(self, benchmark: str, metric: str) -> bool:
        """Whether this benchmark and metric take part."""
        named = not self.filters or any(matches(pattern, benchmark) for pattern in self.filters)
        return named and (not self.metrics or metric in self.metrics)

    def margin(self, benchmark: str, metric: str, group: str) -> float | None:
        """The slowdown that is none here; None where nobody said."""
        for kind in _KINDS:
            for margin in reversed(self.margins):
                if margin.kind == kind and margin.fits(benchmark, metric, group):
                    return margin.share
        return None

    def check(self, keys: Collection[tuple[str, str]], series: Iterable[tuple[tuple[str, str], Series]]) -> None:
        """Raise ConfigError where a name or pattern fits nothing.

        Args:
            keys: every (benchmark, metric) of any session.
            series: those that have samples, on which margins are.
        """
        benchmarks = sorted({benchmark for benchmark, _ in keys})
        metrics = sorted({metric for _, metric in keys})
        for pattern in self.filters:
            if not any(matches(pattern, benchmark) for benchmark in benchmarks):
                raise ConfigError(
                    f"--filter {pattern}: no benchmark has such a name; there are {_listed(benchmarks)}",
                    "a pattern is for the whole name; * stands for any text, as in '*b8*'",
                )
        for name in sorted(self.metrics):
            if name not in metrics:
                raise ConfigError(f"--metric {name}: there is no such metric here", f"there are {_listed(metrics)}")
        timed = [(benchmark, metric, each.group) for (benchmark, metric), each in series]
        for margin in self.margins:
            if margin.kind and not any(margin.fits(*key) for key in timed):
                place = ("bench", "metric", "group").index(margin.kind)
                raise ConfigError(
                    f"--margin {margin}: nothing with samples has such a name;"
                    f" there are {_listed(sorted({key[place] for key in timed if key[place]}))}",
                    "a pattern is for the whole name; * stands for any text; the margins of memory and quality are"
                    " those of the configuration",
                )


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern is for a name: ``*`` is any text, ``?`` one character, all else itself, brackets as well."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def read_margin(text: str, share: float) -> Margin:
    """A margin from what stands before its ``=``; empty for all. A pattern without a kind is for a metric.

    Raises ValueError where there is no pattern.
    """
    if not text:
        return Margin(share)
    kind, colon, pattern = text.partition(":")
    if not colon or kind not in _KINDS[:-1]:
        kind, pattern = "metric", text
    if not pattern:
        raise ValueError(f"{text!r} names nothing")
    return Margin(share, kind, pattern)


def read_renamed(
    pairs: Sequence[tuple[str, ...]], bases: Sequence[StoredSession], new: StoredSession
) -> dict[str, str]:
    """Old names to new ones: OLD is in a base, NEW in the new session.

    Args:
        pairs: (OLD, NEW), or (``OLD=NEW``,). A name may have an ``=`` of its own: what the sessions have decides where
            that is split.
        bases: the older sessions.
        new: the new one.

    Raises ConfigError where a pair names nothing, or one name is there twice.
    """
    before = {name for base in bases for name in base.names}
    found: dict[str, str] = {}
    for pair in pairs:
        old, now = _split(pair, before, new.names)
        if old in found or now in found.values():
            raise ConfigError(
                f"--renamed {'='.join(pair)}: {old if old in found else now} is named twice", "give it once"
            )
        found[old] = now
    return found


def _split(given: tuple[str, ...], before: Collection[str], after: Collection[str]) -> tuple[str, str]:
    pair = "=".join(given)
    splits = [(given[0], given[1])] if len(given) > 1 else list(_splits(pair))
    if not splits:
        raise ConfigError(f"--renamed {pair} is not OLD=NEW", "give both names, as the sessions have them")
    fitting = [(old, now) for old, now in splits if old in before and now in after]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"--renamed {pair} can be read in {len(fitting)} ways", "give it in a file: --renamed @FILE")
    if any(old in before for old, _ in splits):
        raise ConfigError(
            f"--renamed {pair}: NEW has nothing of the second name; it has {_listed(sorted(after))}",
            "give names as the files have them: of benchmarks, or of engines in run records",
        )
    raise ConfigError(
        f"--renamed {pair}: no BASE has anything of the first name; they have {_listed(sorted(before))}",
        "give names as the files have them: of benchmarks, or of engines in run records",
    )


def _splits(pair: str) -> Iterator[tuple[str, str]]:
    places = (place for place, char in enumerate(pair) if char == "=")
    yield from ((pair[:place], pair[place + 1 :]) for place in places if pair[:place] and pair[place + 1 :])


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
