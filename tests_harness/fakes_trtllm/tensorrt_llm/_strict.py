"""Classes made from the contract table of the version that the fake pretends to be; every use is recorded."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from enginegate.engines.trtllm.contract import facts, things

VERSION = metadata.version("tensorrt_llm")
NAMES = frozenset((fact.thing, fact.kind, fact.name) for fact in facts(VERSION))
THINGS = things(VERSION)
#: What the adapters have used so far: (thing, kind, name).
USED: set[tuple[str, str, str]] = set()


def use(thing: str, kind: str, name: str) -> bool:
    """Record a use; False where the table does not hold it."""
    if (thing, kind, name) not in NAMES:
        return False
    USED.add((thing, kind, name))
    return True


def check_keywords(thing: str, keywords: dict[str, Any]) -> None:
    """Refuse an unknown keyword the way pydantic does."""
    for name in keywords:
        if not use(thing, "keyword", name):
            raise ValueError(f"1 validation error for {thing}: {name}: Extra inputs are not permitted")


class Strict:
    """An object with only the table's attributes readable from outside; its own code reads ``_values``."""

    _thing = ""

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not use(self._thing, "attribute", name):
            raise AttributeError(f"{self._thing} has no attribute {name!r}")
        return self._values[name]


def record(thing: str, **values: Any) -> Any:
    """A Strict object of one thing."""
    return type(thing.rpartition(".")[2], (Strict,), {"_thing": thing})(**values)


def config_class(thing: str, **defaults: Any) -> type:
    """A configuration class: keywords only, those of the table only."""

    class Config(Strict):
        _thing = thing

        def __init__(self, **keywords: Any) -> None:
            check_keywords(thing, keywords)
            super().__init__(**{**defaults, **keywords})

    Config.__name__ = thing
    return Config


class Member(str):
    """A member of an enumeration."""

    @property
    def value(self) -> str:
        return str(self)


class _Members(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or not use(cls.__name__, "member", name):
            raise AttributeError(f"{cls.__name__} has no member {name!r}")
        return Member(name)


def enumeration(thing: str) -> Any:
    """An enumeration with the table's members."""
    return _Members(thing, (), {})


class RecordedDict(dict):
    """A dictionary that records the keys that are read, and lacks what the table lacks."""

    def __init__(self, thing: str, values: dict[str, Any]) -> None:
        super().__init__({key: value for key, value in values.items() if (thing, "key", key) in NAMES})
        self._thing = thing

    def __getitem__(self, key: str) -> Any:
        use(self._thing, "key", key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        use(self._thing, "key", key)
        return super().get(key, default)
