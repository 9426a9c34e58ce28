"""The one configuration that ``enginegate init`` writes: of a model that comes with enginegate, or of any source."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from enginegate.config.loading import find_config, load_config
from enginegate.config.model_fit import config_of, config_of_random, positions_of
from enginegate.config.schema import LimitsSection, WorkloadSection
from enginegate.core.errors import ConfigError, ModelError
from enginegate.core.files import expanded
from enginegate.engines.base import Backend
from enginegate.engines.registry import capabilities
from enginegate.models.gguf_file import GgufFile
from enginegate.models.integrity import check_checkpoint, read_checkpoint_json
from enginegate.models.source_syntax import GGUF, RandomSource, read_source

#: Precisions that a new configuration tests, of those that the engine has here; the first stands for bf16 and fp16.
WANTED = ("full_prec", "int8_wo")
#: The section of a configuration that names a file of its own repository.
_BASE = re.compile(r"^base:\n(?:[ #].*\n)*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Configuration:
    """The one configuration to write: the model's name, the file's text, and whether the weights are random."""

    name: str
    text: str
    random_weights: bool = False


def new_configuration(model: str, backend: Backend, folder: Path) -> Configuration:
    """The configuration of a name or source. Raises ConfigError or ModelError for one that cannot be used."""
    if ":" in model:
        made = _from_source(model, backend, folder)
    else:
        path = find_config(model)
        file = load_config(path).file
        if backend.name not in file.engines:
            raise ConfigError(
                f"the configuration {model} has no engine {backend.name!r}, only {', '.join(file.engines)}",
                f"take one of these, or name the model by its source: --model {file.model.source}",
            )
        text = re.sub(
            r"^default_engine:.*$", f"default_engine: {backend.name}", path.read_text(encoding="utf-8"), flags=re.M
        )
        text = _BASE.sub("", text)
        made = Configuration(file.model.name, text, file.model.source.startswith("random:"))
    with tempfile.TemporaryDirectory() as place:
        trial = Path(place, f"{made.name}.yaml")
        trial.write_text(made.text, encoding="utf-8")
        load_config(trial)
    return made


def _from_source(source: str, backend: Backend, folder: Path) -> Configuration:
    kind, _, rest = source.partition(":")
    plain, positions = False, None
    if kind == "path" and rest.lower().endswith(GGUF) and expanded(rest).is_file():
        checkpoint = expanded(rest).absolute()
        file = GgufFile.read(checkpoint)
        plain, positions = file.get("tokenizer.chat_template") is None, file.integer(".context_length")
        name, source = checkpoint.stem, _path_source(checkpoint, folder)
    elif kind == "path" and rest:
        checkpoint = expanded(rest).absolute()
        check_checkpoint(checkpoint)
        plain, positions = not _chats(checkpoint), positions_of(config_of(checkpoint))
        name, source = checkpoint.name, _path_source(checkpoint, folder)
    elif kind == "random" and rest:
        asked = read_source(source)
        assert isinstance(asked, RandomSource)
        name, positions = f"{asked.geometry}-random", positions_of(config_of_random(asked))
    elif (kind == "hub" and re.fullmatch(r"[\w.-]+/[\w.-]+@[\w./-]+(#.+)?", rest)) or (
        kind == "pypi" and re.fullmatch(r"[\w.-]+==[\w.+!-]+", rest)
    ):
        read_source(source)
        name = re.split(r"@|==", rest)[0].rpartition("/")[2]
    else:
        raise ModelError(
            f"the model source {source!r} cannot be used",
            "write hub:ORG/NAME@COMMIT, path:DIR, path:FILE.gguf, pypi:PACKAGE==VERSION or random:GEOMETRY?seed=N",
        )
    name = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-")[:100] or "model"
    text = (resources.files("enginegate.templates") / "configuration.yaml.txt").read_text(encoding="utf-8")
    values = {
        "name": name,
        "source": json.dumps(source),
        "engine": backend.name,
        "precisions": ", ".join(_precisions(backend)),
        "plain": str(plain).lower(),
        "limits": _limits(positions),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return Configuration(name, text, kind == "random")


def _path_source(place: Path, folder: Path) -> str:
    """The source of a checkpoint on this disk, from ``configs`` where it lies in the repository itself."""
    return f"path:../{place.relative_to(folder)}" if folder in place.parents else f"path:{place}"


def _limits(positions: int | None) -> str:
    """A section of limits for a model that has fewer positions than the defaults together; else nothing."""
    usual = LimitsSection()
    if positions is None or positions >= usual.max_input_len + usual.max_output_len:
        return ""
    longest = positions // 4
    lengths = {"max_input_len": positions - longest, "max_output_len": longest}
    lines = ["", f"limits:    # the model has {positions} positions, for input and output together"]
    lines += [f"  {key}: {length}" for key, length in lengths.items()]
    work = WorkloadSection()
    shorter = {"input_len": min(work.input_len, lengths["max_input_len"]), "output_len": min(work.output_len, longest)}
    if shorter != {"input_len": work.input_len, "output_len": work.output_len}:
        lines += ["", "workload:", *(f"  {key}: {length}" for key, length in shorter.items())]
    return "\n".join(lines) + "\n"


def _chats(checkpoint: Path) -> bool:
    """Whether a checkpoint's tokenizer has a chat template."""
    settings = checkpoint / "tokenizer_config.json"
    inside = settings.is_file() and bool(read_checkpoint_json(settings).get("chat_template"))
    return inside or (checkpoint / "chat_template.jinja").is_file()


def _precisions(backend: Backend) -> list[str]:
    """What a first session tests: half precision and 8-bit weights where the engine has them, else what it has."""
    known = capabilities(backend).precisions
    names = [name for name, capability in known.items() if capability.supported] or list(known)
    if {"bf16", "fp16"} & set(names):
        names.append("full_prec")
    return [name for name in WANTED if name in names] or names[:1]


def why_not_here(backend: Backend) -> str:
    """Why an engine has no precision at all on this machine; empty where it has one."""
    known = capabilities(backend).precisions
    if any(capability.supported for capability in known.values()):
        return ""
    return next((capability.reason for capability in known.values() if capability.reason), "it names no precision")
