"""A model from the Hugging Face Hub, kept in the hub client's own cache layout, which resumes broken downloads."""

from __future__ import annotations

import json
import re
from pathlib import Path

from enginegate.core.cache import Progress, exclusive
from enginegate.core.errors import ModelError, edge
from enginegate.core.files import write_atomically
from enginegate.core.progress import lasting
from enginegate.models.digest import folder_digest
from enginegate.models.integrity import UntrustedError, check_checkpoint
from enginegate.models.source_syntax import HubSource

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
    if (found := _fetched_before(note, cache, progress)) is not None:
        return found
    with exclusive(note, progress):
        if (found := _fetched_before(note, cache, progress)) is not None:
            return found
        warn_of_moving(revision, progress)
        with lasting(progress, f"downloading {repository} at {revision} from the Hugging Face Hub", loud=True):
            folder = _download(repository, revision, cache / "hub", damaged=note.exists())
        check_checkpoint(folder)
        digest = folder_digest(folder, cache=cache, progress=progress)
        kept = folder.relative_to(cache) if folder.is_relative_to(cache) else folder  # the cache may move
        write_atomically(note, json.dumps({"folder": str(kept), "digest": digest}))
    return folder, digest


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


def _download(repository: str, revision: str, folder: Path, *, damaged: bool) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    hints = {  # the first is one of the second
        GatedRepoError: "accept the model's licence on its page, then log in with `hf auth login`",
        RepositoryNotFoundError: "check the name; a private model needs `hf auth login`",
        RevisionNotFoundError: "check the revision on the model's page",
    }
    problem = f"cannot fetch {repository} at {revision} from the Hugging Face Hub"
    try:
        with edge(
            ModelError, problem, "check the network and its proxies, or fetch the model elsewhere and use path:DIR"
        ):
            return Path(
                huggingface_hub.snapshot_download(
                    repository,
                    revision=revision,
                    cache_dir=folder,
                    allow_patterns=_WANTED,
                    ignore_patterns=["*/*"],
                    force_download=damaged,
                )
            )
    except ModelError as error:
        for kind, hint in hints.items():
            if isinstance(error.__cause__, kind):
                raise ModelError(error.problem, hint) from error.__cause__
        raise
