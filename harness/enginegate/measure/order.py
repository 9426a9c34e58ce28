"""Who runs when: Williams squares over units, each block followed by its reverse. Pure: names and a block's number.

A *unit* is one contestant, or twins (an engine and its variant) that stand next to each other. The rows of a Williams
square (E. J. Williams, Australian Journal of Scientific Research A 2, 1949, 149-168) are the cyclic shifts of

    0, 1, n-1, 2, n-2, ...

For an even number of units that is one square, which holds the reverse of each of its rows; for an odd number it takes
two, the second of which has the reverses of the first. So every row can be followed by its reverse, and a *square* is
n blocks for even n and 2 n blocks for odd n, in which

- every unit stands in every place equally often (once, or twice), and
- within the blocks every unit runs right after every other one equally often (once, or twice).

So whatever a third contestant leaves behind for the one after it (on the log scale) cancels in the ratio of two, over a
square. What the two themselves leave differs by 1/n of (what the second leaves - what the first leaves), as nobody runs
after itself within a block. The first of a block runs after the last of the block before: after itself in the middle of
a block and its reverse, else after the unit that began that pair of blocks. Of a lone pair (A B, B A, A B, ...) each
runs after each, itself too, equally often.

What plain reversal gave is kept: in blocks 2k and 2k+1 together any two contestants have run in both orders, equally
far apart, so a drift that is linear in the count of rounds adds +c and -c to their log ratio, and cancels in the mean
of the two. It does not cancel within each block, as it would where the two always stand equally far apart: c differs
from pair to pair of blocks, and what drift adds to the scatter that way counts as noise.

Twins run in both orders in each block and its reverse, and take turns from square to square in which order is first: so
over two squares each of the two, as well, runs right after every other unit equally often.
"""

from __future__ import annotations

from collections.abc import Sequence


def block_order(units: Sequence[Sequence[str]], block: int) -> list[str]:
    """The order in which contestants run in one block.

    Args:
        units: names of the contestants, those that stand next to each other together.
        block: the block's number, from 0.
    """
    count = len(units)
    square, place = divmod(block, square_length(count))
    steps = [-(step // 2) if step % 2 == 0 else step // 2 + 1 for step in range(count)]
    row = [(place // 2 + step) % count for step in steps][:: -1 if place % 2 else 1]
    return [name for unit in row for name in units[unit][:: -1 if (place + square) % 2 else 1]]


def square_length(units: int) -> int:
    """How many blocks a square of so many units takes."""
    return max(2, units if units % 2 == 0 else 2 * units)
