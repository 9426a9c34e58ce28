"""What of a checkpoint, or of a config.json alone, decides the memory that its engines take."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError
from enginegate.core.records import MemoryParts
from enginegate.core.specs import EngineSpec, RuntimeSpec, Workload
from enginegate.engines.base import Backend
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import memory_law, pool_bytes
from enginegate.measure.memory_plan import ModelSize, live_elements, predict
from enginegate.models.attention import attention_of, load_config
from enginegate.models.weights import WeightCounts, weight_counts


@dataclass(frozen=True)
class MemoryModel:
    """A model as memory sees it.

    Attributes:
        geometry: of its attention.
        size: of its weights and activations.
        no_weights: why nobody can tell how many weights it has; empty where that is known.
    """

    geometry: Geometry
    size: ModelSize
    no_weights: str = ""


def read_memory_model(path: Path) -> MemoryModel:
    """Read a checkpoint's folder or a config.json; no weights are needed. Raises ModelError; see ``memory_model``."""
    return memory_model(load_config(path), str(path))


def memory_model(config: Mapping[str, Any], name: str) -> MemoryModel:
    """The model that a configuration describes.

    Raises:
        ModelError: it describes a cache of an unknown kind; ``name`` is named.
    """
    attention_of(config, name)  # names the file where it cannot be
    geometry = Geometry.of(config)
    counts: WeightCounts | None = None
    reason = ""
    with tempfile.TemporaryDirectory(prefix="enginegate-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
        try:
            counts = weight_counts(Path(folder))
        except ModelError as error:
            reason = error.problem.replace(str(Path(folder) / "config.json"), name)
    return MemoryModel(geometry, ModelSize(geometry.layers, live_elements(config), counts), reason)


def predicted_memory(
    backend: Backend, spec: EngineSpec, runtime: RuntimeSpec, workload: Workload, model: MemoryModel
) -> MemoryParts:
    """What an engine will take while it answers one batch of ``workload``.

    Raises:
        CapabilityError: its backend states no law, or none for this model.
    """
    law = memory_law(backend, spec, runtime, model.geometry)
    output = workload.output_len
    written = law.kv.used_bytes([workload.input_len + output] * workload.batch_size)
    pool = pool_bytes(law.kv, spec, runtime) if law.kv.whole_pool else written
    return predict(law, model.size, workload.batch_size, workload.input_len, output, pool)
