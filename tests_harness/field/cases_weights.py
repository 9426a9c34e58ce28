"""Files of weights that are not the model's, and weights that are there twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from enginegate.engines.checkpoint import link_checkpoint
from enginegate.models.sources import resolve
from enginegate.models.weights import weight_files
from field_case import Got, attempt, case

KIND = "measured as if whole"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def write_weights(file: Path, size: int = 1000) -> None:
    """A sound safetensors file with one tensor of bytes, which has the file's name."""
    header = json.dumps({file.stem: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


def checkpoint(folder: Path, *names: str, index: Mapping[str, object] | None = None) -> Path:
    """A config, and files of weights by these names."""
    made = folder / "checkpoint"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    for name in names:
        write_weights(made / name)
    if index is not None:
        (made / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return made


def linked(folder: Path) -> Got:
    """The files that an engine gets of a checkpoint."""
    engine = folder.parent / "engine"
    engine.mkdir()
    link_checkpoint(folder, engine)
    return Got(" ".join(sorted(file.name for file in engine.iterdir() if file.name != "config.json")))


def placed(*names: str) -> dict[str, object]:
    """The index of a model of one tensor in each of these files."""
    return {"weight_map": {Path(name).stem: name for name in names}}


@case("another safetensors file beside the model", kind=KIND, expected=SINGLE)
def stray_file(folder: Path) -> Got:
    return linked(checkpoint(folder, SINGLE, "consolidated.safetensors"))


@case("copies in other formats beside the model", kind=KIND, expected=SINGLE)
def other_formats(folder: Path) -> Got:
    made = checkpoint(folder, SINGLE)
    for name in ("model.gguf", "tf_model.h5", "flax_model.msgpack", "model.onnx", "pytorch_model.bin"):
        (made / name).write_bytes(b"weights")
    return linked(made)


@case("a file that the index does not name", kind=KIND, expected=f"a.safetensors b.safetensors {INDEX}")
def file_outside_the_index(folder: Path) -> Got:
    index = placed("a.safetensors", "b.safetensors")
    return linked(checkpoint(folder, "a.safetensors", "b.safetensors", "c.safetensors", index=index))


@case("the model whole and in parts", kind=KIND, expected=SINGLE)
def whole_and_in_parts(folder: Path) -> Got:
    return linked(checkpoint(folder, SINGLE, "a.safetensors", index=placed("a.safetensors")))


@case("the model whole, and the index of parts that are gone", kind=KIND, expected=SINGLE)
def index_left_behind(folder: Path) -> Got:
    return linked(checkpoint(folder, SINGLE, index=placed("a.safetensors", "b.safetensors")))


@case("safetensors by a name that no loader takes", kind=KIND, expected="ModelError", says=("no weights", SINGLE))
def unknown_name(folder: Path) -> Got:
    source = f"path:{checkpoint(folder, 'weights.safetensors')}"
    return attempt(resolve, source, cache=folder / "cache", progress=print)


@case("weights as a pickle alone", kind=KIND, expected="UntrustedError", says=("pytorch_model.bin", "save_pretrained"))
def pickle_alone(folder: Path) -> Got:
    made = checkpoint(folder)
    (made / "pytorch_model.bin").write_bytes(b"weights")
    return attempt(resolve, f"path:{made}", cache=folder / "cache", progress=print)


@case("an index that names a missing file", kind=KIND, expected="ModelError", says=("b.safetensors is missing",))
def missing_part(folder: Path) -> Got:
    return attempt(weight_files, checkpoint(folder, "a.safetensors", index=placed("a.safetensors", "b.safetensors")))


@case("an index that names a file elsewhere", kind=KIND, expected="ModelError", says=("weight_map",))
def part_elsewhere(folder: Path) -> Got:
    write_weights(folder / "a.safetensors")
    return attempt(weight_files, checkpoint(folder, index=placed("../a.safetensors")))


@case("an index without weight_map", kind=KIND, expected="ModelError", says=("weight_map",))
def index_of_nothing(folder: Path) -> Got:
    return attempt(weight_files, checkpoint(folder, "a.safetensors", index={"metadata": {}}))


@case("a weight_map that is a list", kind=KIND, expected="ModelError", says=("weight_map",))
def index_is_a_list(folder: Path) -> Got:
    return attempt(weight_files, checkpoint(folder, "a.safetensors", index={"weight_map": ["a.safetensors"]}))
