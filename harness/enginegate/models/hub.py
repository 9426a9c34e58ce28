"""A model from the Hugging Face Hub, kept in the hub client's own cache layout, which resumes broken downloads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from enginegate.core.cache import Progress, exclusive
from enginegate.core.errors import ModelError, edge
from enginegate.core.files import write_atomically
from enginegate.core.progress import lasting
from enginegate.models.digest import file_digest, folder_digest
from enginegate.models.integrity import UntrustedError, check_checkpoint
from enginegate.models.source_syntax import HubSource

Found = TypeVar("Found")

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Weights, configs and tokenizer of the top folder, without the copies for other frameworks that some models carry.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja"]


def resolve_hub(source: HubSource, *, cache: Path, progress: Progress) -> tuple[Path, str]:
    """Fetch a repository at a revision once; afterwards the network is not used.

    Returns:
        The checkpoint's folder and its digest.

    Raises:
        ModelError: the Hub cannot be reached or refuses, or the checkpoint is not whole.
    """
    repository, revision = source.repository, source.revision
    reference = f"{repository}@{revision}"
    note = cache / "models" / f"hub-{re.sub(r'[^A-Za-z0-9._-]', '--', reference)}.json"

    def fetch() -> tuple[Path, str]:
        warn_of_moving(revision, progress)
        with lasting(progress, f"downloading {repository} at {revision} from the Hugging Face Hub", loud=True):
            folder = _download(repository, revision, cache / "hub", damaged=note.exists())
        check_checkpoint(folder)
        digest = folder_digest(folder, cache=cache, progress=progress)
        write_atomically(note, json.dumps({"folder": _in_cache(folder, cache), "digest": digest}))
        return folder, digest

    return _once(note, progress, lambda: _fetched_before(note, cache, progress), fetch)


def _once(note: Path, progress: Progress, before: Callable[[], Found | None], fetch: Callable[[], Found]) -> Found:
    """What was fetched ``before``, else what ``fetch`` gives now; of two processes that ask, one fetches."""
    if (found := before()) is not None:
        return found
    with exclusive(note, progress):
        found = before()
        return fetch() if found is None else found


def _in_cache(place: Path, cache: Path) -> str:
    """A path as a note has it: within the cache, which may move, where it is there."""
    return str(place.relative_to(cache) if place.is_relative_to(cache) else place)


def warn_of_moving(revision: str, progress: Progress) -> None:
    """Say that a revision which is no commit may be another one tomorrow."""
    if not _COMMIT.fullmatch(revision):
        progress(f"warning: {revision!r} may move; a commit hash in the config names one for ever")


def _fetched_before(note: Path, cache: Path, progress: Progress) -> tuple[Path, str] | None:
    """The finished download that the note speaks of, or None when there is none or it changed since."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        folder, digest = cache / content["folder"], str(content["digest"])
        check_checkpoint(folder)
    except UntrustedError:  # fetching it again would not change that
        raise
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return (folder, digest) if folder_digest(folder, cache=cache, progress=progress) == digest else None


def resolve_hub_file(source: HubSource, *, cache: Path, progress: Progress) -> Path:
    """Fetch one file of a repository at a revision once; afterwards the network is not used.

    Raises:
        ModelError: the Hub cannot be reached or refuses, or has no such file.
    """
    reference = f"{source.repository}@{source.revision}#{source.file}"
    note = cache / "models" / f"hub-{re.sub(r'[^A-Za-z0-9._-]', '--', reference)}.json"

    def fetch() -> Path:
        warn_of_moving(source.revision, progress)
        with lasting(progress, f"downloading {reference} from the Hugging Face Hub", loud=True):
            file = _download_file(source, cache / "hub", damaged=note.exists())
        digest = file_digest(file, cache=cache, progress=progress)
        write_atomically(note, json.dumps({"file": _in_cache(file, cache), "digest": digest}))
        return file

    return _once(note, progress, lambda: _file_fetched_before(note, cache, progress), fetch)


def _file_fetched_before(note: Path, cache: Path, progress: Progress) -> Path | None:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        file = cache / content["file"]
        return file if file_digest(file, cache=cache, progress=progress) == content["digest"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _download(repository: str, revision: str, folder: Path, *, damaged: bool) -> Path:
    import huggingface_hub

    return _fetched(
        f"{repository} at {revision}",
        huggingface_hub.snapshot_download,
        repository,
        revision=revision,
        cache_dir=folder,
        allow_patterns=_WANTED,
        ignore_patterns=["*/*"],
        force_download=damaged,
    )


def _download_file(source: HubSource, folder: Path, *, damaged: bool) -> Path:
    import huggingface_hub

    return _fetched(
        f"{source.file} of {source.repository} at {source.revision}",
        huggingface_hub.hf_hub_download,
        source.repository,
        source.file,
        revision=source.revision,
        cache_dir=folder,
        force_download=damaged,
    )


def _fetched(what: str, fetch: Callable[..., Any], *arguments: object, **options: object) -> Path:
    """What a function of the Hub's client fetches; its refusals become errors that say what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    network = "check the network and its proxies, or fetch the model elsewhere and use path:DIR or path:FILE.gguf"
    hints = {  # the first is one of the second, and the third of the fourth
        GatedRepoError: "accept the model's licence on its page, then log in with `hf auth login`",
        RepositoryNotFoundError: "check the name; a private model needs `hf auth login`",
        LocalEntryNotFoundError: network,
        EntryNotFoundError: "check the file's name under 'Files and versions' on the model's page",
        RevisionNotFoundError: "check the revision on the model's page",
    }
    try:
        with edge(ModelError, f"cannot fetch {what} from the Hugging Face Hub", network):
            return Path(fetch(*arguments, **options))
    except ModelError as error:
        for kind, hint in hints.items():
            if isinstance(error.__cause__, kind):
                raise ModelError(error.problem, hint) from error.__cause__
        raise
