"""What is noted of one name of TensorRT-LLM; ``facts_data`` holds the table of them."""

from __future__ import annotations

from dataclasses import dataclass

#: First release that the adapters know, and the first one that has no engine backend any more.
FIRST, ENGINE_REMOVED = "1.0", "1.3"


@dataclass(frozen=True)
class Thing:
    """One class, enumeration or result object of TensorRT-LLM.

    Attributes:
        name: how the adapters call it; ``engine.LLM`` and ``torch.LLM`` are the two classes named LLM.
        module: where it is imported from; empty for an object that only calls return.
        defined: (file, class) below the package whose members together make it; empty where C++ defines it.
        since: first version that has it.
        before: first version that has it no more; empty for none known.
        source: where this was read.
    """

    name: str
    module: str
    defined: tuple[tuple[str, str], ...]
    since: str
    before: str
    source: str


@dataclass(frozen=True)
class Fact:
    """One name that the adapters use.

    Attributes:
        thing: name of the Thing it belongs to.
        kind: ``keyword`` of the constructor, ``member`` of an enumeration, ``attribute`` of an instance, ``method``,
            ``parameter`` of a method (written ``method.parameter``) or ``key`` of a returned dictionary.
        name: the name itself.
        since: first version that has it.
        before: first version that has it no more; empty for none known.
        source: where this was read.
    """

    thing: str
    kind: str
    name: str
    since: str
    before: str
    source: str
