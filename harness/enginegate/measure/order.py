"""Who runs when: Williams squares over units, each block followed by its reverse. Pure: names and a block's number.

A *unit* is one contestant, or twins (an engine and its variant) that stand next to each other. The rows of a Williams
square (E. J. Williams, Australian Journal of Scientific Research A 2, 1949, 149-168) are the cyclic shifts of

    0, 1, n-1, 2, n-2, ...

For an even number of units that is one square, which holds the reverse of each of its rows; for an odd number it takes
two, the second of which has the reverses of the first. So every row can be followed by its reverse, and a *square* is
n blocks for even n and 2 n blocks for odd n, in which

- every unit stands in every place equally often (once, or twice), and
- every unit runs right after every other one equally often (once, or twice) within the blocks.

The first of a block runs after the last of the block before: itself in the middle of such a pair of blocks, else the
unit that began the pair before.

What plain reversal gave is kept: in blocks 2k and 2k+1 together any two contestants have run in both orders, equally
far apart, so a drift that is linear in the count of rounds adds +c and -c to their ratio, and cancels in the mean of
the two. (It does not cancel within each block, as it would where the two always stand equally far apart: c differs from
pair to pair of blocks, and what a drift adds to the scatter counts as noise.)

Twins alternate from block to block. Squares take turns in which of a row and its reverse comes first: with that, over
two squares, each of two twins, too, runs right after every other unit equally often, and the order of a lone pair of
contestants is A B, B A, B A, A B, ..., in which a quadratic drift cancels, too.
"""

from __future__ import annotations

from collections.abc import Sequence


def block_order(units: Sequence[Sequence[str]], block: int) -> list[str]:
    """The order in which contestants run in one block.

    Args:
        units: names of the contestants, those that stand next to each other together.
        block: the block's number, from 0.
    """
    order = _row(len(units), block)
    return [name for unit in order for name in units[unit][:: 1 if block % 2 == 0 else -1]]


def square_length(units: int) -> int:
    """How many blocks a square of so many units takes."""
    return max(2, units if units % 2 == 0 else 2 * units)


def _row(units: int, block: int) -> list[int]:
    """Indices of the units in the order of one block."""
    square, place = divmod(block, square_length(units))
    shift, reverse = place // 2, (place + square) % 2
    first = [-(step // 2) if step % 2 == 0 else step // 2 + 1 for step in range(units)]
    row = [(unit + shift) % units for unit in first]
    return row[::-1] if reverse else row
