"""Converting a GGUF file of the Llama family into a Hugging Face checkpoint.

Written against the formats themselves, because the loader in Transformers changes the tokenizer on the way: it adds
fill-in-the-middle tokens and a beginning-of-sequence rule, and forgets that digits are split.

The weights are stored as float32. Quantized GGUF values are a float16 scale times a small integer plus a float16
offset; float32 holds what the dequantization yields, while float16 and bfloat16 would round it, and the reference that
all quality is measured against would then be a rounded copy. Engines cast down from it themselves.
"""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from enginegate.core.cache import Progress
from enginegate.core.errors import ModelError
from enginegate.core.progress import Step
from enginegate.models.bpe import write_tokenizer
from enginegate.models.loading import SHOWN, shown

#: Tensor names of one layer: in the GGUF file, and in Transformers' LlamaForCausalLM.
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3  # the GGUF format's token type of markers such as <|im_end|>
#: Names of pre-tokenizers that split digits one by one and then work on GPT-2's words.
_DIGIT_SPLITTING = {"smollm"}


def convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    """Write a Hugging Face checkpoint with float32 weights into the existing empty ``folder``.

    Raises:
        ModelError: the file is damaged, uses an architecture, tokenizer or tensor type not known here, its tensors are
            not those that its metadata describe, or some are NaN or infinite.
    """
    reader, values = _read(source)
    architecture = values.text("general.architecture")
    if architecture != "llama" or values.get("llama.rope.scaling.type") is not None:
        raise ModelError(
            f"{source}: only the Llama architecture with plain rotary positions can be converted, "
            f"this is {architecture!r}",
            "use a Hugging Face checkpoint of this model (path: or hub:)",
        )
    shape = _Shape.of(values)
    progress(Step("writing the tokenizer"))
    _write_tokenizer(values, folder)
    progress(Step("dequantizing the weights to float32"))
    tensors = _read_tensors(reader, source, shape)
    _write_config(values, shape, folder, tied="lm_head.weight" not in tensors)
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _read(source: Path) -> tuple[Any, _Metadata]:
    """The file's reader and its metadata. Raises ModelError where it is damaged."""
    from gguf import GGUFReader

    class Bounded(GGUFReader):  # type: ignore[misc]
        """The reader, which by itself goes on behind the end of a cut file, for ever where a length there is large."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            found = super()._get(offset, dtype, count, override_order)
            if len(found) < int(count):
                raise ValueError(f"it ends where {int(count)} values of {np.dtype(dtype)} should be, at {offset}")
            return found

    try:
        reader = Bounded(source)
        values = _Metadata(source, {name: field.contents() for name, field in reader.fields.items()})
        end = reader.data_offset
        for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
            if tensor.data_offset < end:
                raise ValueError(f"tensor {tensor.name!r} overlaps the one before it")
            end = tensor.data_offset + tensor.n_bytes
    except Exception as error:  # of every kind that a damaged file can provoke in the reader
        raise ModelError(
            f"{source} is not a readable GGUF file: {type(error).__name__}: {error}", "fetch it again"
        ) from error
    return reader, values


class _Metadata:
    """The file's key-value pairs; asking for one that is missing, or of another kind, is a ModelError."""

    def __init__(self, source: Path, values: dict[str, Any]) -> None:
        self.source = source
        self._values = values

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise ModelError(f"{self.source} has no {key}", "use a GGUF file that carries the model's whole metadata")
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def text(self, key: str) -> str:
        value = self[key]
        return value if isinstance(value, str) else self._refuse(key, value, "text")

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self[key] if default is None else self.get(key, default)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return int(value) if whole else self._refuse(key, value, f"a whole number of at least {least}")

    def number(self, key: str, default: float | None = None) -> float:
        value = self[key] if default is None else self.get(key, default)
        positive = isinstance(value, float) and 0 < value < math.inf
        return float(value) if positive else self._refuse(key, value, "a positive number")

    def items(self, key: str, kind: type) -> list[Any]:
        value = self[key]
        fitting = isinstance(value, list) and all(type(item) is kind for item in value)
        return list(value) if fitting else self._refuse(key, value, f"a list of {kind.__name__}")

    def _refuse(self, key: str, value: Any, wanted: str) -> NoReturn:
        raise ModelError(
            f"{self.source}: {key} is {reprlib.repr(value)}, which is not {wanted}",
            "use a GGUF file that carries the model's whole metadata",
        )


@dataclass(frozen=True)
class _Shape:
    """What the metadata say of the model: sizes in elements."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int

    @classmethod
    def of(cls, values: _Metadata) -> _Shape:
        hidden, heads = values.integer("llama.embedding_length"), values.integer("llama.attention.head_count")
        return cls(
            layers=values.integer("llama.block_count"),
            hidden=hidden,
            mlp=values.integer("llama.feed_forward_length"),
            heads=heads,
            kv_heads=values.integer("llama.attention.head_count_kv", heads),
            head=values.integer("llama.attention.key_length", hidden // heads),
            vocabulary=len(values.items("tokenizer.ggml.tokens", str)),
        )

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """By name in the GGUF file: the name in Transformers, and the shape."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("attn_norm", "ffn_norm"), (self.hidden,)),
            **dict.fromkeys(("attn_k", "attn_v"), (keys, self.hidden)),
            **dict.fromkeys(("ffn_gate", "ffn_up"), (self.mlp, self.hidden)),
            "attn_q": (queries, self.hidden),
            "attn_output": (self.hidden, queries),
            "ffn_down": (self.hidden, self.mlp),
        }
        wanted: dict[str, tuple[str, tuple[int, ...]]] = {
            "token_embd.weight": ("model.embed_tokens.weight", (self.vocabulary, self.hidden)),
            "output_norm.weight": ("model.norm.weight", (self.hidden,)),
        }
        for layer in range(self.layers):
            for ours, theirs in _LAYER_TENSORS.items():
                wanted[f"blk.{layer}.{ours}.weight"] = (f"model.layers.{layer}.{theirs}.weight", shapes[ours])
        return wanted


def _read_tensors(reader: Any, source: Path, shape: _Shape) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor by its Transformers name, float32, dequantized."""
    from gguf.quants import dequantize

    hint = "use a Hugging Face checkpoint of this model (path: or hub:)"
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if shape.layers > len(stored):
        raise ModelError(f"{source} says {shape.layers} layers, but holds {len(stored)} tensors in all", hint)
    if shape.head % 2:
        raise ModelError(f"{source} says heads of {shape.head} values, but rotary positions turn pairs of them", hint)
    wanted = shape.tensors()
    if "output.weight" in stored:
        wanted["output.weight"] = ("lm_head.weight", (shape.vocabulary, shape.hidden))
    if stored.keys() != wanted.keys():
        missing, unknown = sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys())
        raise ModelError(
            f"{source} does not hold a Llama's tensors: {len(missing)} missing {missing[:SHOWN]}, {len(unknown)} "
            f"unknown {unknown[:SHOWN]}",
            hint,
        )
    sizes = {name: tuple(int(size) for size in reversed(tensor.shape.tolist())) for name, tensor in stored.items()}
    other = [f"{name}: {sizes[name]}, not {wanted[name][1]}" for name in stored if sizes[name] != wanted[name][1]]
    if other:
        raise ModelError(f"{source}: {len(other)} tensors are not as its metadata say ({shown(other)})", hint)
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}
    tensors, broken = {}, []
    for name, tensor in stored.items():
        try:
            weight = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except Exception as error:  # of every kind that the library has for types that it does not know
            raise ModelError(f"{source}: tensor type {tensor.tensor_type.name} is not supported", hint) from error
        if not np.isfinite(weight).all():
            broken.append(name)
        part = name.split(".")[-2]
        if part in heads:
            weight = _unpermute(weight, heads[part])
        tensors[wanted[name][0]] = np.ascontiguousarray(weight)
    if broken:
        raise ModelError(
            f"{source}: weights are NaN or infinite in {len(broken)} tensors ({shown(broken)})",
            "fetch it again, or use another file",
        )
    return tensors


def _unpermute(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undo GGUF's row order of query and key projections.

    Rotary positions turn pairs of rows. GGUF puts the two rows of a pair next to each other; Transformers puts all
    first rows of a head before all second ones.
    """
    rows, columns = weight.shape
    pairs: np.ndarray[Any, Any] = weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2)
    return pairs.reshape(rows, columns)


def _write_config(values: _Metadata, shape: _Shape, folder: Path, *, tied: bool) -> None:
    """Write ``config.json`` and ``generation_config.json`` in the keys that every version of Transformers reads."""
    special = {f"{role}_token_id": i for role, i in _special_ids(values).items() if role != "unk"}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": values.integer("llama.context_length"),
        "rms_norm_eps": _shortest(values.number("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(values.number("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        **special,
    }
    for name, content in (("config.json", config), ("generation_config.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _shortest(value: float) -> float:
    """The number somebody wrote before it was stored as float32: 9.999999747378752e-06 was 1e-05."""
    return float(str(np.float32(value)))


def _special_ids(values: _Metadata) -> dict[str, int]:
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    found = {}
    for role, name in roles.items():
        key = f"tokenizer.ggml.{name}_token_id"
        if values.get(key) is not None:
            found[role] = values.integer(key, least=0)
    return found


def _write_tokenizer(values: _Metadata, folder: Path) -> None:
    kind, splitting = values.text("tokenizer.ggml.model"), values.text("tokenizer.ggml.pre")
    if kind != "gpt2" or splitting not in _DIGIT_SPLITTING:
        raise ModelError(
            f"{values.source}: the tokenizer {kind!r} with pre-tokenizer {splitting!r} is not known here, "
            "and a guess would change the tokens",
            "use a Hugging Face checkpoint of this model (path: or hub:)",
        )
    tokens, kinds = values.items("tokenizer.ggml.tokens", str), values.items("tokenizer.ggml.token_type", int)
    if len(set(tokens)) != len(tokens) or len(kinds) != len(tokens):
        raise ModelError(
            f"{values.source}: {len(tokens)} tokens, of which {len(set(tokens))} differ, have {len(kinds)} types",
            "fetch it again, or use another file",
        )
    template = values.text("tokenizer.chat_template") if values.get("tokenizer.chat_template") is not None else ""
    length, special = values.integer("llama.context_length"), _special_ids(values)
    try:
        write_tokenizer(
            folder,
            tokens=tokens,
            merges=[
                (first, second)
                for first, second in (merge.split(" ") for merge in values.items("tokenizer.ggml.merges", str))
            ],
            control_ids=[i for i, token_kind in enumerate(kinds) if token_kind == _CONTROL_TOKEN],
            special_ids=special,
            split_digits=True,
            chat_template=template,
            max_length=length,
        )
    except ModelError:
        raise
    except Exception as error:  # a bare Exception for a merge of unknown tokens, an IndexError for a role's id
        raise ModelError(
            f"{values.source}: no tokenizer can be made of its tokens and merges: {type(error).__name__}: {error}",
            "fetch it again, or use another file",
        ) from error
