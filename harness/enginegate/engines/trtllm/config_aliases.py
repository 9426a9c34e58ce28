"""Option names of earlier TensorRT-LLM projects, turned into this suite's own before the file is validated.

Three dialects are read, at the top of a file (they then describe ``default_engine``) or inside one backend's section:

- pipelines with ``quantization:``, ``optimization:`` and ``engine:`` (``mode: int4_weight_only``, ``use_awq``,
  ``use_paged_kv_cache`` …);
- precision benchmarks that say ``int8_wo``, ``int4_awq`` and ``full_prec``, which are this suite's own names;
- the AWQ engine guide's ``llm: TensorRTLLM:`` (``quant_method``, ``calib_size``, ``smoothquant`` …).

Nothing is dropped in silence: an option that has no effect here, is unknown, or contradicts another is an error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from enginegate.core.errors import ConfigError
from enginegate.core.spelling import did_you_mean

_SECTIONS = ("quantization", "optimization", "engine", "llm")
_OWN_QUANTIZATION = frozenset(("group_size", "calibration", "calibration_samples"))
_MODES = {
    "fp16": "fp16",
    "bf16": "bf16",
    "full_prec": "full_prec",
    "fp8": "fp8",
    "int8_weight_only": "int8_wo",
    "int8_wo": "int8_wo",
    "int4_weight_only": "int4_wo",
    "int4_wo": "int4_wo",
    "int4_awq": "int4_awq",
    "int4_gptq": "int4_gptq",
    "smoothquant": "w8a8_sq",
    "w8a8_sq": "w8a8_sq",
}
_METHODS = {"fp8": "fp8", "int4_awq": "int4_awq", "smoothquant": "w8a8_sq", "int8": "int8_wo"}
_ALGORITHMS = {
    "W8A16": "int8_wo",
    "W4A16": "int4_wo",
    "W4A16_AWQ": "int4_awq",
    "W4A16_GPTQ": "int4_gptq",
    "W8A8_SQ_PER_CHANNEL": "w8a8_sq",
    "FP8": "fp8",
}
#: What a plain width may stand for.
_WIDTHS = {
    "float16": ("fp16", "full_prec"),
    "fp16": ("fp16", "full_prec"),
    "bfloat16": ("bf16", "full_prec"),
    "int8": ("int8_wo", "w8a8_sq"),
    "int4": ("int4_wo", "int4_awq", "int4_gptq"),
    "fp8": ("fp8",),
}
_CALIBRATED = frozenset(("int4_awq", "w8a8_sq", "fp8"))
_HALF = {"float16": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16"}


def canonical(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The file's content in this suite's own keys; unchanged where it has no foreign ones.

    Raises ConfigError naming the file, the option and the hint for an option that is unknown, has no effect here, or
    contradicts another.
    """
    content: dict[str, Any] = copy.deepcopy(dict(raw))
    engines = content.get("engines")
    if isinstance(engines, dict):
        for name, section in engines.items():
            if isinstance(section, dict) and _is_foreign(section):
                _translate(section, section, content, f"{path}, engines.{name}")
    if any(name in content for name in _SECTIONS):
        backend = content.setdefault("default_engine", "trtllm-engine")
        if not isinstance(backend, str):
            raise ConfigError(f"{path}: default_engine {backend!r} is no name", "name the backend that is tested")
        engines = content.setdefault("engines", {})
        target = engines.setdefault(backend, {}) if isinstance(engines, dict) else {}
        if not isinstance(target, dict):
            raise ConfigError(f"{path}: engines.{backend} is no mapping", "make it one")
        _translate(content, target, content, str(path))
    return content


def _is_foreign(section: Mapping[str, Any]) -> bool:
    quantization = section.get("quantization")
    known = isinstance(quantization, dict) and set(quantization) <= _OWN_QUANTIZATION
    return any(name in section for name in _SECTIONS[1:]) or (isinstance(quantization, dict) and not known)


def _translate(source: dict[str, Any], target: dict[str, Any], content: dict[str, Any], where: str) -> None:
    """Move the foreign sections of ``source`` into the backend's section ``target`` and the file's limits."""
    found = _Found(where)
    for name in _SECTIONS:
        section = source.pop(name, None)
        section = {} if section is None else section
        if name == "llm":
            section = _only_child(section, where)
        if not isinstance(section, dict):
            raise ConfigError(f"{where}: {name} is no mapping", "write its options as keys")
        readers = {"quantization": _QUANTIZATION, "optimization": _OPTIMIZATION, "engine": _ENGINE, "llm": _GUIDE}[name]
        for option, value in section.items():
            reader = readers.get(option)
            if reader is None:
                raise ConfigError(
                    f"{where}: unknown option {name}.{option}{did_you_mean(str(option), readers)}",
                    f"known there are {', '.join(sorted(readers))}",
                )
            reader(found, f"{name}.{option}", value)
    found.write(target, content)


def _only_child(section: Any, where: str) -> Any:
    if section and (not isinstance(section, dict) or set(section) != {"TensorRTLLM"}):
        raise ConfigError(f"{where}: llm holds more than TensorRTLLM", "this suite reads llm.TensorRTLLM alone")
    return section.get("TensorRTLLM") or {} if section else {}


class _Found:
    """What the options said so far, each with the option that said it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.facts: dict[str, tuple[Any, str]] = {}
        self.precisions: dict[str, tuple[str, ...]] = {}
        self.calibration: tuple[str, str] | None = None

    def say(self, key: str, value: Any, option: str) -> None:
        """Set one of our keys (``quantization.group_size``); a second, different value is a contradiction."""
        if key in self.facts and not _same(self.facts[key][0], value):
            before, other = self.facts[key]
            raise ConfigError(
                f"{self.where}: {option} says {value!r}, but {other} says {before!r}", f"drop one: both set {key}"
            )
        self.facts[key] = (value, option)

    def may_be(self, precisions: tuple[str, ...], option: str) -> None:
        """Restrict what the weights may be."""
        self.precisions[option] = precisions

    def refuse(self, option: str, value: Any, reason: str, hint: str) -> None:
        """Raise for an option that cannot be honoured."""
        raise ConfigError(f"{self.where}: {option} {value!r} {reason}", hint)

    def precision(self) -> str | None:
        """The one precision that all options agree on."""
        left: tuple[str, ...] | None = None
        for option, allowed in self.precisions.items():
            both = allowed if left is None else tuple(name for name in left if name in allowed)
            if not both:
                others = ", ".join(name for name in self.precisions if name != option)
                raise ConfigError(
                    f"{self.where}: {option} means {' or '.join(allowed)}, which contradicts {others}",
                    "make the options agree, or keep one of them",
                )
            left = both
        return left[0] if left else None

    def write(self, target: dict[str, Any], content: dict[str, Any]) -> None:
        """Put everything into place; what the file says in our own keys as well must agree."""
        precision = self.precision()
        if precision is not None:
            listed = target.setdefault("precisions", [precision])
            if not isinstance(listed, list) or precision not in listed:
                raise ConfigError(
                    f"{self.where}: {', '.join(self.precisions)} mean {precision}, but precisions lists {listed}",
                    "drop one of the two",
                )
        listed = target.get("precisions")
        self._check_calibration([name for name in listed if isinstance(name, str)] if isinstance(listed, list) else [])
        for key, (value, option) in self.facts.items():
            section, _, name = key.partition(".")
            place = (content if section == "limits" else target).setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{self.where}: {section} is no mapping", "write its options as keys")
            if name in place and not _same(place[name], value):
                raise ConfigError(f"{self.where}: {option} says {value!r}, but {key} says {place[name]!r}", "drop one")
            place[name] = value

    def _check_calibration(self, precisions: list[str]) -> None:
        """A data set by name lies on a hub; where nothing is calibrated it makes no difference and may be named."""
        if self.calibration is None:
            return
        name, option = self.calibration
        if name.endswith((".jsonl", ".json")):
            self.say("quantization.calibration", name, option)
        elif _CALIBRATED.intersection(precisions):
            self.refuse(
                option,
                name,
                "names a data set of a hub, and calibration reads local passages",
                "leave it out for the suite's own passages, or name a JSON-lines file with a text field",
            )


Reader = Callable[[_Found, str, Any], None]


Value = TypeVar("Value")


def _of(names: Mapping[str, Value], found: _Found, option: str, value: Any) -> Value:
    """What a name stands for; refuses one that is not among them."""
    if not isinstance(value, str) or value not in names:
        found.refuse(option, value, f"is not known{did_you_mean(str(value), names)}", f"known are {', '.join(names)}")
    return names[value]


def _truth(found: _Found, option: str, value: Any) -> bool:
    """A switch; refuses what is neither true nor false."""
    if not isinstance(value, bool):
        found.refuse(option, value, "is neither true nor false", "write true or false")
    return bool(value)


def _same(one: Any, other: Any) -> bool:
    """Equal as a file has them: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _key(key: str) -> Reader:
    return lambda found, option, value: found.say(key, value, option)


def _name(names: Mapping[str, str]) -> Reader:
    def read(found: _Found, option: str, value: Any) -> None:
        found.may_be((_of(names, found, option, value),), option)

    return read


def _mode(found: _Found, option: str, value: Any) -> None:
    precision = _of(_MODES, found, option, value)
    # The mode names the width; use_awq and use_gptq say how it is reached.
    found.may_be(("int4_wo", "int4_awq", "int4_gptq") if value == "int4_weight_only" else (precision,), option)


def _width(found: _Found, option: str, value: Any) -> None:
    found.may_be(_of(_WIDTHS, found, option, value), option)


def _switch(on: tuple[str, ...], off: tuple[str, ...]) -> Reader:
    def read(found: _Found, option: str, value: Any) -> None:
        found.may_be(on if _truth(found, option, value) else off, option)

    return read


def _calibration(found: _Found, option: str, value: Any) -> None:
    found.calibration = (str(value), option)


def _kv_precision(found: _Found, option: str, value: Any) -> None:
    found.say("runtime.kv_precision", _HALF.get(value, value) if isinstance(value, str) else value, option)


def _int8_kv(found: _Found, option: str, value: Any) -> None:
    if _truth(found, option, value):
        found.say("runtime.kv_precision", "int8", option)
    elif found.facts.get("runtime.kv_precision", ("", ""))[0] == "int8":
        found.refuse(option, value, "contradicts a kv_cache_precision of int8", "drop one of the two")


def _activations(found: _Found, option: str, value: Any) -> None:
    found.say("runtime.activation_precision", _of(_HALF, found, option, value), option)


def _only(value: Any, reason: str, hint: str) -> Reader:
    """An option that is accepted at one value, because that is what happens, and refused at any other."""

    def read(found: _Found, option: str, given: Any) -> None:
        if not _same(given, value):
            found.refuse(option, given, reason, hint)

    return read


def _inflight(found: _Found, option: str, value: Any) -> None:
    found.say("runtime.scheduler_policy", "inflight" if _truth(found, option, value) else "static", option)


def _quantize(found: _Found, option: str, value: Any) -> None:
    if not _truth(found, option, value):
        found.may_be(("fp16", "bf16", "full_prec"), option)


_EVERY = tuple(dict.fromkeys(_MODES.values()))
_SEARCHED = ("is searched by the quantizer for each layer, not set", "leave it out")

_QUANTIZATION: dict[str, Reader] = {
    "mode": _mode,
    "precision": _width,
    "quant_algo": _name(_ALGORITHMS),
    "weight_only_precision": _width,
    "use_weight_only": _switch(
        ("int8_wo", "int4_wo", "int4_awq", "int4_gptq"), ("fp16", "bf16", "full_prec", "fp8", "w8a8_sq")
    ),
    "use_awq": _switch(("int4_awq",), tuple(name for name in _EVERY if name != "int4_awq")),
    "use_gptq": _switch(("int4_gptq",), tuple(name for name in _EVERY if name != "int4_gptq")),
    "group_size": _key("quantization.group_size"),
    "awq_block_size": _key("quantization.group_size"),
    "gptq_block_size": _key("quantization.group_size"),
    "gptq_group_size": _key("quantization.group_size"),
    "gptq_desc_act": _only(False, "is not offered", "set it to false, or leave it out"),
    "awq_alpha": _only(None, *_SEARCHED),
    "awq_clip_alpha": _only(None, *_SEARCHED),
    "activation_precision": _activations,
    "kv_cache_precision": _kv_precision,
    "calibration": _key("quantization.calibration"),
    "calibration_dataset": _calibration,
    "calibration_samples": _key("quantization.calibration_samples"),
}
_OPTIMIZATION: dict[str, Reader] = {"use_int8_kv_cache": _int8_kv, "kv_cache_precision": _kv_precision}
_ENGINE: dict[str, Reader] = {
    "max_batch_size": _key("limits.max_batch_size"),
    "max_input_len": _key("limits.max_input_len"),
    "max_output_len": _key("limits.max_output_len"),
    "use_paged_kv_cache": _only(True, "is not offered: every engine pages its KV cache", "set it to true"),
    "tokens_per_block": _key("runtime.tokens_per_block"),
    "kv_cache_free_gpu_mem_fraction": _key("runtime.kv_cache_fraction"),
    "max_tokens_in_paged_kv_cache": _key("runtime.kv_cache_tokens"),
    "use_inflight_batching": _inflight,
    "stream_batch_size": _only(
        None, "has no meaning here: the suite streams every request of a timed batch", "set workload.batch_sizes"
    ),
}
_GUIDE: dict[str, Reader] = {
    "to_quantize": _quantize,
    "dtype": _activations,
    "quant_method": _name(_METHODS),
    "calib_size": _key("quantization.calibration_samples"),
    "smoothquant": _only(0.5, "is not offered: upstream's 0.5 is used", "set it to 0.5, or leave it out"),
}
