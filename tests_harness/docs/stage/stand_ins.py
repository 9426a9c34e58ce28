"""Stand-ins for backends and models, under the very names of the real ones.

So the commands of the pages run word for word, in seconds, without a network: the engine that a command names is the
one that only pretends (``enginegate_fake``), the model a checkpoint of four thousand weights. All else is real: the
shell, pytest, the plugin, the command line, files, records, git.

``python -m stand_ins configs/*.yaml`` makes stand-ins of configurations that are there.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import enginegate.measure.arena
import yaml
from enginegate.engines.base import Capabilities, Capability
from enginegate.engines.registry import BUILT_IN
from enginegate_fake import PRECISIONS, FakeBackend
from workspace import CONFIG, SHIFT

#: Folder with the checkpoint and the data.
PLACE = "ENGINEGATE_STAGE"
REFERENCE = {"backend": "hf", "precision": "fp32"}
#: Precisions that the fake has not, and the one that each is as fast and as exact as.
ALIKE = {
    "fp16": "bf16",
    "fp8": "int8_wo",
    "w8a8_sq": "int8_wo",
    "int4_awq": "int4_wo",
    "int4_gptq": "int4_wo",
    "w4a8_awq": "int4_wo",
    "nvfp4": "int4_wo",
}


class _StandIn(FakeBackend):
    def capabilities(self) -> Capabilities:
        device = os.environ.get("ENGINEGATE_FAKE_DEVICE", "cpu")
        return Capabilities({name: Capability(True) for name in PRECISIONS}, {"fp16": Capability(True)}, device)


def __getattr__(name: str) -> type[FakeBackend]:
    """The backend that stands in for the one of this name, its dashes being underscores."""
    if name.replace("_", "-") not in BUILT_IN:
        raise AttributeError(name)
    # Rounds of a few milliseconds beside the rest of the tests would be repeated, and judged by nobody.
    enginegate.measure.arena.foreign_load = lambda *_: 0.0
    PRECISIONS.update({alike: PRECISIONS[other] for alike, other in ALIKE.items()})
    return type("StandIn", (_StandIn,), {"name": name.replace("_", "-")})


def configuration(name: str, engines: Mapping[str, Sequence[str]], default: str) -> dict[str, Any]:
    """A configuration of this name with the first two of these engines' precisions, whose sessions are short."""
    content = copy.deepcopy(CONFIG)
    place = Path(os.environ[PLACE])
    data = {key: str(place / "data" / f"{key}.jsonl") for key in ("prompts", "articles", "passages", "questions")}
    return content | {
        "model": {"name": name, "source": f"path:{place / 'checkpoint'}"},
        "default_engine": default,
        "engines": {backend: {"precisions": _without_variants(found)[:2]} for backend, found in engines.items()},
        "limits": {"max_batch_size": 8, "max_input_len": 256, "max_output_len": 32},
        "reference": REFERENCE,
        "workload": {"batch_sizes": [1], "input_len": 16, "output_len": 8},
        "quality": content["quality"] | data | {"reference": REFERENCE},
        "arena": {"time_budget": 30, "audit_blocks": 8},
        "gates": content["gates"]
        | {
            "speed": {"shift": SHIFT},
            "live": {"looks": [4], "margin": 0.05, "tolerated": 0.25, "pairs": 4, "audit_launches": 4},
        },
        "floors": {},
    }


def _without_variants(precisions: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(each.partition("@")[0] for each in precisions))


def main(files: Sequence[str]) -> None:
    """Replace configurations by stand-ins with the same name and engines."""
    for file in map(Path, files):
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        engines = {backend: section["precisions"] for backend, section in found["engines"].items()}
        content = configuration(found["model"]["name"], engines, found["default_engine"])
        file.write_text(yaml.safe_dump(content), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
