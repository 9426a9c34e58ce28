"""The files of one model: its checkpoint, its tokenizer, its prompts, and the engines built from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from enginegate.config.loading import Config
from enginegate.config.model_fit import check_positions
from enginegate.core.cache import Progress
from enginegate.core.errors import CapabilityError, EngineGateError
from enginegate.core.progress import lasting
from enginegate.core.specs import EngineSpec
from enginegate.engines.base import Backend
from enginegate.engines.process.building import build_limits
from enginegate.engines.registry import load_backend
from enginegate.engines.store import EngineStore, StoreEntry
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.sources import resolve
from enginegate.models.tokenizer import Tokenizer
from enginegate.models.weights import count_weights
from enginegate.quality import sets
from enginegate.quality.data import Prompt
from enginegate.quality.sets import check_tokens, data_set


class ModelFiles:
    """What one configuration needs on disk, made or fetched when it is first asked for. Nothing here runs an engine.

    Args:
        config: the model's configuration.
        cache: folder of models and engines.
        progress: receives one line per long step.
        tested: the backends whose engines are asked for; none for all that the configuration lists.
    """

    def __init__(self, config: Config, cache: Path, progress: Progress, tested: Iterable[str] = ()) -> None:
        self.config = config
        self.cache = cache
        self.progress = progress
        references = (config.file.reference.backend, config.file.quality.reference.backend)
        self._backends = {*(tested or config.file.engines), *references}
        self._checkpoint: Checkpoint | None = None
        self._refused: EngineGateError | None = None
        self._tokenizer: Tokenizer | None = None
        self._store = EngineStore(cache)
        self._built: dict[str, StoreEntry] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's local checkpoint, whole and with a tokenizer that belongs to it.

        Raises ModelError or ConfigError where it cannot be used: the same again whenever it is asked for.
        """
        if self._refused is not None:
            raise self._refused
        if self._checkpoint is None:
            try:
                with lasting(self.progress, f"reading the model {self.config.name}"):
                    self._checkpoint, self._tokenizer = self._found()
            except EngineGateError as error:
                self._refused = error
                raise
        return self._checkpoint

    def _found(self) -> tuple[Checkpoint, Tokenizer]:
        """The checkpoint and its tokenizer. Raises ConfigError where it has too few positions for what is asked."""
        model, quality = self.config.file.model, self.config.file.quality
        source = model.source
        if source.startswith("path:"):
            source = f"path:{self.config.resolve(source.removeprefix('path:'))}"
        # Some backends run what others have quantized; the rest, the reference among them, refuse it themselves.
        plain = not any(map(_takes_quantized, sorted(self._backends)))
        found = resolve(source, cache=self.cache, sha256=model.sha256, plain=plain, progress=self.progress)
        check_positions(self.config.file, found.path)
        tokenizer = Tokenizer.load(found.path, quality.plain_prompts, quality.add_bos)
        return replace(found, end_ids=tokenizer.eos_ids), tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        _ = self.checkpoint
        assert self._tokenizer is not None
        return self._tokenizer

    def prompts(self) -> list[Prompt]:
        """The texts that are answered and timed. Raises ConfigError where the file is missing, empty or damaged."""
        return sets.prompts(self.config, self.progress).items

    def check_data(self, metric: str) -> None:
        """Have the items of a quality metric here and read, before anything is built or loaded for them.

        Raises ConfigError where they cannot be had, or one of them cannot be asked of this model.
        """
        data = data_set(self.config, metric, self.progress)
        if data is not None:
            check_tokens(data, self.tokenizer)

    def build(self, spec: EngineSpec, backend: Backend | None = None) -> StoreEntry:
        """The engine's files, built where they are not in the store; checked byte by byte once a session.

        ``backend``: what builds it, where that is another than this Python's.
        """
        if spec.id not in self._built:
            backend = backend or load_backend(spec.backend)
            with build_limits(self.config.timeouts()):
                self._built[spec.id] = self._store.get(spec, self.checkpoint, backend, progress=self.progress)
        return self._built[spec.id]

    def weights(self) -> int:
        """How many weights the model has; tied ones count once."""
        return count_weights(self.checkpoint.path)

    def close(self) -> None:
        """Declare the engines as no longer in use."""
        self._store.close()


def _takes_quantized(backend: str) -> bool:
    """Whether a backend builds engines of checkpoints that are quantized already."""
    try:
        return bool(getattr(load_backend(backend), "takes_quantized", False))
    except CapabilityError:  # it cannot be had here, so it builds nothing: who asks for its engines is told
        return False
