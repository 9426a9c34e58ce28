"""How near an engine comes to the memory's own speed, and figures that cannot be.

At batch 1 every token reads all weights once, so tokens per second x bytes of weights cannot exceed what the memory
moves (Williams, Waterman and Patterson, "Roofline", CACM 52 (2009) 65-76, at an arithmetic intensity far below the
ridge). The bandwidth is measured by a copy in the same session, never taken from a data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

from enginegate.core.errors import MeasurementError
from enginegate.core.records import ArenaEntry, MemoryEntry, RunRecord
from enginegate.measure.latency import summarise_rounds

#: A share above this is no measurement: the input embedding, of which a token reads one row, is counted as read, and a
#: copy does not reach quite what a pure read does, which together stay well below a fifth.
_IMPOSSIBLE = 1.2


@dataclass(frozen=True)
class Roofline:
    """One engine at batch 1.

    Attributes:
        engine: engine id.
        device: the GPU's name.
        tokens_per_second: measured.
        ceiling: tokens per second at which reading the weights alone would take all of the bandwidth.
    """

    engine: str
    device: str
    tokens_per_second: float
    ceiling: float

    @property
    def share(self) -> float:
        """Share of the ceiling that was reached."""
        return self.tokens_per_second / self.ceiling

    @property
    def impossible(self) -> bool:
        """Whether the weights would have been read faster than the memory can be."""
        return self.share > _IMPOSSIBLE

    def __str__(self) -> str:
        return ("impossible figure: " if self.impossible else "") + (
            f"{self.engine} on {self.device}: {self.tokens_per_second:,.0f} tokens/s at batch 1 is {self.share:.0%} "
            f"of the {self.ceiling:,.0f} that reading the weights alone allows"
        )


def rooflines(record: RunRecord) -> list[Roofline]:
    """One for each engine that was timed at batch 1, reads its weights for each token, and of which enough is known."""
    arenas = [arena for arena in record.arenas if arena.batch_size == 1 and arena.blocks]
    found: dict[str, Roofline] = {}
    for memory in record.memory:
        for arena in arenas:
            line = roofline(record, arena, memory)
            if line is not None:
                found.setdefault(line.engine, line)
    return list(found.values())


def roofline(record: RunRecord, arena: ArenaEntry, memory: MemoryEntry) -> Roofline | None:
    """The engine of ``memory`` in an arena of batch 1.

    None where it was not in it to the end, where what is needed is not known, and where speculation gives several
    tokens a pass.
    """
    engines = [engine for engine in record.engines if engine.id == memory.engine]
    if any(engine.runtime.get("speculation", "none") != "none" for engine in engines):
        return None
    rounds = [entry for block in arena.blocks for entry in block.rounds if entry.engine == memory.engine]
    left = memory.engine in arena.failures
    if arena.batch_size != 1 or left or not rounds or not memory.weights or not memory.copy_bytes_per_second:
        return None
    rate = summarise_rounds(rounds)["tokens_per_second"]
    cards = max((int(engine.spec.get("tensor_parallel", 1)) for engine in engines), default=1)
    return Roofline(memory.engine, memory.device, rate, cards * memory.copy_bytes_per_second / memory.weights)


def refuse_impossible(record: RunRecord, arena: ArenaEntry, engine: str) -> None:
    """Raise MeasurementError where the engine would have read its weights faster than the memory can be read."""
    for memory in record.memory:
        line = roofline(record, arena, memory) if memory.engine == engine else None
        if line is not None and line.impossible:
            hint = "see that the engine runs the model that it says, and that no cache answers"
            raise MeasurementError(str(line), hint)
