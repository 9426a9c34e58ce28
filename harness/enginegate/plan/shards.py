"""One session as several runs: its engines are dealt out to shards, each of which plans the whole session.

So every gate has its share of one error budget, whichever shard it runs in, and the runs can be merged into one record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from enginegate.core.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """``number`` of ``of``, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def read_shard(text: str, option: str = "--shard") -> Shard | None:
    """What the option says, ``I/N``; None where it says nothing. Raises ConfigError for what is no shard."""
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if found is None:
        raise ConfigError(
            f"{option} {text!r} names no shard", f"write I/N, for example {option} 1/3: the first of three"
        )
    number, of = map(int, found.groups())
    if not 1 <= number <= of:
        raise ConfigError(f"{option} {text!r}: there is no shard {number} of {of}", "shards are counted from 1 to N")
    return Shard(number, of)


def deal(engines: Sequence[str], of: int) -> tuple[tuple[str, ...], ...]:
    """The engines of every shard, dealt out in turn; a shard has none where there are more shards than engines."""
    return tuple(tuple(engines[place::of]) for place in range(of))
