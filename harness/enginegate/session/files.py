"""The files of one model: its checkpoint, its tokenizer, its prompts, and the engines built from it."""

from __future__ import annotations

import math
from pathlib import Path

from enginegate.config.loading import Config
from enginegate.core.cache import Progress
from enginegate.core.specs import EngineSpec
from enginegate.engines.process.building import build_limits
from enginegate.engines.registry import load_backend
from enginegate.engines.store import EngineStore, StoreEntry
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.sources import resolve
from enginegate.models.tokenizer import Tokenizer
from enginegate.quality.data import Prompt, load_prompts


class ModelFiles:
    """What one configuration needs on disk, made or fetched when it is first asked for. Nothing here runs an engine.

    Args:
        config: the model's configuration.
        cache: folder of models and engines.
        progress: receives one line per long step.
    """

    def __init__(self, config: Config, cache: Path, progress: Progress) -> None:
        self.config = config
        self.cache = cache
        self.progress = progress
        self._checkpoint: Checkpoint | None = None
        self._tokenizer: Tokenizer | None = None
        self._store = EngineStore(cache)
        self._built: dict[str, StoreEntry] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's local checkpoint."""
        if self._checkpoint is None:
            model = self.config.file.model
            source = model.source
            if source.startswith("path:"):
                source = f"path:{self.config.resolve(source.removeprefix('path:'))}"
            # Some backends run what others have quantized; the rest, the reference among them, refuse it themselves.
            engines = map(load_backend, self.config.file.engines)
            plain = not any(getattr(backend, "takes_quantized", False) for backend in engines)
            self._checkpoint = resolve(
                source, cache=self.cache, sha256=model.sha256, plain=plain, progress=self.progress
            )
        return self._checkpoint

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self.checkpoint.path, self.config.file.quality.plain_prompts)
        return self._tokenizer

    def prompts(self) -> list[Prompt]:
        """The texts that are answered and timed. Raises ConfigError where the file is missing, empty or damaged."""
        return load_prompts(self.config.resolve(self.config.file.quality.prompts))

    def build(self, spec: EngineSpec) -> StoreEntry:
        """The engine's files, built where they are not in the store; checked byte by byte once a session."""
        if spec.id not in self._built:
            backend = load_backend(spec.backend)
            with build_limits(self.config.timeouts()):
                self._built[spec.id] = self._store.get(spec, self.checkpoint, backend, progress=self.progress)
        return self._built[spec.id]

    def weights(self) -> int:
        """How many weights the checkpoint has; tied ones are stored, and count, once."""
        from safetensors import safe_open

        total = 0
        for file in sorted(self.checkpoint.path.glob("*.safetensors")):
            with safe_open(file, framework="np") as tensors:  # type: ignore[no-untyped-call]
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        return total

    def close(self) -> None:
        """Declare the engines as no longer in use."""
        self._store.close()
