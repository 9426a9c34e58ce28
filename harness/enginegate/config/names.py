"""Names that a configuration refers to: each must name something, or what is said of it would hold for nothing.

They are looked up in the content as it stands, whatever else may be wrong with that, so that all is said at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from enginegate.config.schema import FULL_PRECISION, WorkloadSection
from enginegate.core.errors import EngineGateError
from enginegate.core.specs import PRECISIONS, VARIANT_MARK
from enginegate.core.spelling import did_you_mean
from enginegate.engines.registry import REFERENCE, capabilities, known_backends, load_backend

#: Of the full half precision, those that it may stand for.
_HALVES = ("bf16", "fp16")
#: The reference's precision that is chosen by measuring.
_AUTO = "auto"
_BY_BATCH = ("speedup", "ttft", "itl")


class Backends:
    """What is known of the backends, each asked once while a file is read.

    Attributes:
        names: those that ``load_backend`` accepts.
    """

    def __init__(self) -> None:
        self.names = known_backends()
        self._precisions: dict[str, list[str]] = {}

    def unknown(self, place: str, name: str) -> str:
        """The line for a backend that nobody knows."""
        return f"  {place}: unknown backend {name!r}; known are {', '.join(self.names)}{did_you_mean(name, self.names)}"

    def precisions(self, name: str) -> list[str]:
        """What a backend can build on any machine; empty where that cannot be asked here."""
        if name not in self._precisions:
            try:
                known = list(capabilities(load_backend(name)).precisions) if name in self.names else []
            except EngineGateError:  # whoever selects it gets this error
                known = []
            self._precisions[name] = known
        return self._precisions[name]


def unknown_names(content: Mapping[str, Any], backends: Backends) -> Iterator[str]:
    """A line for each name that names nothing: backends, precisions, variants, batch sizes."""
    engines = _section(content, "engines")
    default = content.get("default_engine")
    if isinstance(default, str) and engines and default not in engines:
        yield f"  default_engine {default!r} is not under engines: add it there{did_you_mean(default, engines)}"
    for backend, section in engines.items():
        listed = section.get("precisions") if isinstance(section, dict) else None
        for number, name in enumerate(listed if isinstance(listed, list) else []):
            yield from _unknown_precision(f"engines.{backend}.precisions.{number}", backend, name, backends)
    quality = _section(content, "quality")
    for place, reference in (("", _section(content, "reference")), ("quality.", _section(quality, "reference"))):
        backend = reference.get("backend", REFERENCE)
        if isinstance(backend, str) and backend not in backends.names:
            yield backends.unknown(f"{place}reference.backend", backend)
        yield from _unknown_reference(f"{place}reference.precision", reference, backends, auto=not place)
    tested = _section(content, "workload").get("batch_sizes", WorkloadSection().batch_sizes)
    sizes = [f"b{size}" for size in tested] if isinstance(tested, list) else []
    for backend, floors in _section(content, "floors").items():
        if backend not in backends.names:
            yield backends.unknown(f"floors.{backend}", backend)
        for name, floor in floors.items() if isinstance(floors, dict) else ():
            place = f"floors.{backend}.{name}"
            yield from _unknown_floor(place, backend, name, _section(_section(engines, backend), "variants"), backends)
            yield from _unknown_sizes(place, floor, sizes)


def _unknown_floor(
    place: str, backend: str, name: str, variants: Mapping[str, Any], backends: Backends
) -> Iterator[str]:
    """``name``: a precision, or one in a variant."""
    precision, mark, variant = name.partition(VARIANT_MARK)
    if precision == FULL_PRECISION:
        yield f"  {place}: {precision} stands for {' or '.join(_HALVES)}: write floors for these"
    elif precision not in PRECISIONS:
        yield _unknown_name(place, precision, backends.precisions(backend) or PRECISIONS)
    else:
        yield from _unknown_precision(place, backend, precision, backends)
    if mark and variant not in variants:
        there = f"{', '.join(variants) or 'none'}{did_you_mean(variant, variants)}"
        yield f"  {place}: there is no variant {variant!r} under engines.{backend}.variants; known: {there}"


def _unknown_sizes(place: str, floor: Any, sizes: list[str]) -> Iterator[str]:
    """Batch sizes that a floor is for, and no test runs."""
    for metric in _BY_BATCH:
        for key in _section(floor, metric):
            if re.fullmatch(r"b[1-9][0-9]*", key) and key not in sizes:
                yield (
                    f"  {place}.{metric}.{key}: is not tested: workload.batch_sizes gives {', '.join(sizes)}; add "
                    f"{key[1:]} there, or drop this floor{did_you_mean(key, sizes)}"
                )


def _unknown_reference(place: str, reference: Mapping[str, Any], backends: Backends, *, auto: bool) -> Iterator[str]:
    """``auto``: whether the reference may be chosen by measuring."""
    precision = reference.get("precision")
    if not isinstance(precision, str) or (auto and precision == _AUTO):
        return
    known = [*PRECISIONS, *([_AUTO] if auto else [])]
    if precision not in known:
        yield _unknown_name(place, precision, known)
    elif isinstance(backend := reference.get("backend", REFERENCE), str):
        yield from _unknown_precision(place, backend, precision, backends)


def _unknown_precision(place: str, backend: str, name: Any, backends: Backends) -> Iterator[str]:
    """A precision that the suite knows, and this backend has on no machine."""
    precision = name.partition(VARIANT_MARK)[0] if isinstance(name, str) else ""
    if precision not in (*PRECISIONS, FULL_PRECISION):
        return  # the schema says so
    known = backends.precisions(backend)
    if known and precision not in known and not (precision == FULL_PRECISION and set(_HALVES) & set(known)):
        yield f"  {place}: backend {backend} has no precision {precision!r}, only {', '.join(known)}"


def _unknown_name(place: str, precision: str, known: Sequence[str]) -> str:
    return f"  {place}: unknown precision {precision!r}; known are {', '.join(known)}{did_you_mean(precision, known)}"


def _section(content: Any, name: str) -> Mapping[str, Any]:
    """A section of the content; empty where it is none."""
    found = content.get(name) if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}
