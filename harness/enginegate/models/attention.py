"""Which kinds of attention a model's layers have, as its ``config.json`` says: what its KV cache must hold.

Kinds, and what a layer keeps of one token:

- multi-head, grouped-query (arXiv:2305.13245) and multi-query (arXiv:1911.02150): a key and a value for each KV head;
- MLA (multi-head latent attention, arXiv:2405.04434): one latent vector and one rotary key for all heads together, and
  no second copy for values;
- sliding window (arXiv:2310.06825): as the first ones, of the last tokens alone.

Layers of one model may differ. A configuration that names something else is refused by the name of the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginegate.core.errors import ModelError, edge
from enginegate.core.files import read_json

#: Keys of caches that no law here covers, where they have a value.
_FOREIGN = re.compile(
    r"(^|_)(mamba|ssm|rwkv|lru|conv|conv1d|delta|retention|recurrent|hybrid)($|_)"
    r"|^(state_size|time_mix|wkv|index_topk|index_head_dim|compress_ratios?|block_configs|block_types?|layers_block_type)"
    r"|^(attn_config|attention_types|attention_chunk_size|attention_k_eq_v|cross_attention_layers|num_kv_shared_layers)$"
    r"|^linear_(num|key|value|conv|attn)|^attn_(layer_period|type_list)$|^kv_shared"
)
#: What ``layer_types`` calls the two kinds that are known.
_FULL, _SLIDING = "full_attention", "sliding_attention"
#: Models whose every layer has the window, where the configuration does not say which have it.
_WINDOW_EVERYWHERE = frozenset({"mistral", "mixtral", "phi3", "starcoder2", "ministral"})
#: Models of which every n-th layer has no window, where the configuration does not say n.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "gpt_oss": 2, "cohere2": 4}
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_MOST_LAYERS = 100_000
_CORRECT = "see config.json of the model; this tells the KV cache of attention alone"


@dataclass(frozen=True)
class AttentionKind:
    """Layers of one model that are alike.

    Attributes:
        layers: how many there are.
        query_heads: attention heads of a layer.
        kv_heads: heads whose keys and values are kept.
        key_size, value_size: elements of one head's key and value.
        window: tokens that a layer looks back at; None for all.
        latent: of MLA, elements of a token's latent vector and rotary key together; 0 for every other kind.
    """

    layers: int
    query_heads: int
    kv_heads: int
    key_size: int
    value_size: int
    window: int | None = None
    latent: int = 0

    @property
    def elements(self) -> int:
        """Elements that one layer keeps of one token, where MLA's latent vector is expanded to its heads."""
        return self.kv_heads * (self.key_size + self.value_size)

    @property
    def name(self) -> str:
        """The kind in the field's words."""
        if self.latent:
            return "multi-head latent (MLA)"
        heads = {1: "multi-query", self.query_heads: "multi-head"}.get(self.kv_heads, "grouped-query")
        return heads if self.window is None else f"{heads}, window {self.window:,}"


@dataclass(frozen=True)
class Attention:
    """All attention of a model.

    Attributes:
        kinds: its kinds, in the order of their first layers.
        positions: tokens that it has positions for; None where it has no limit of its own.
    """

    kinds: tuple[AttentionKind, ...]
    positions: int | None

    @property
    def layers(self) -> int:
        """Attention layers."""
        return sum(kind.layers for kind in self.kinds)


def load_config(path: Path) -> dict[str, Any]:
    """The text model's part of ``config.json``. What it leaves to Transformers' defaults is filled in by Transformers.

    Args:
        path: the file, or the folder that it lies in.

    Raises:
        ModelError: it is missing, cannot be read, or leaves out what nobody can fill in.
    """
    file = path / "config.json" if path.is_dir() else path
    whole = read_json(file, ModelError, "name a checkpoint's folder, or its config.json")
    inner = whole.get("text_config")
    config = inner if isinstance(inner, dict) else whole
    if _is_whole(config) and config is whole:
        return config
    kind = config.get("model_type")
    if not isinstance(kind, str):
        return config
    try:
        from transformers import AutoConfig
    except ImportError:
        return config
    given = {key: value for key, value in config.items() if key != "model_type"}
    with edge(ModelError, f"{file}: Transformers does not know what a {kind} leaves out", _CORRECT):
        filled: dict[str, Any] = AutoConfig.for_model(kind, **given).to_dict()
    return {**filled, **config}


def read_attention(path: Path) -> Attention:
    """The attention of a checkpoint on disk. Raises ModelError; see ``load_config`` and ``attention_of``."""
    file = path / "config.json" if path.is_dir() else path
    return attention_of(load_config(path), str(file))


def attention_of(config: Mapping[str, Any], name: str = "config.json") -> Attention:
    """The attention that a configuration describes.

    Args:
        config: a Hugging Face configuration, or the ``pretrained_config`` of a TensorRT engine's.
        name: of the file, for errors.

    Raises:
        ModelError: a key is missing or no whole number, or it describes a cache of another kind; the key is named.
    """
    _refuse_foreign(config, name)
    heads = _number(config, name, "num_attention_heads", "n_head", "n_heads", "num_heads")
    layers = _number(config, name, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if layers > _MOST_LAYERS:
        raise ModelError(f"{name}: {layers:,} layers are more than any model has", "correct num_hidden_layers")
    found: dict[tuple[int, int, int, int, int | None, int], int] = {}
    latent, keys, values = _sizes(config, name, heads)
    for layer, window in enumerate(_windows(config, name, layers)):
        size, kv = (keys, values), heads if latent else _kv_heads(config, name, heads, layer, layers)
        if window is None and (wide := config.get("global_head_dim")) and not latent:
            size = (int(wide), int(wide))
            kv = int(config.get("num_global_key_value_heads") or kv)
        if heads % kv:
            raise ModelError(f"{name}: {heads} attention heads are no multiple of {kv} KV heads", _CORRECT)
        kind = (heads, kv, *size, window, latent)
        found[kind] = found.get(kind, 0) + 1
    kinds = tuple(AttentionKind(count, *kind) for kind, count in found.items())
    return Attention(kinds, _positions(config, name))


def _is_whole(config: Mapping[str, Any]) -> bool:
    """Whether nothing that decides the cache is left to a library's defaults."""
    named = [("num_attention_heads", "n_head"), ("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd", "head_dim")]
    return all(any(config.get(key) is not None for key in keys) for keys in named)


def _refuse_foreign(config: Mapping[str, Any], name: str) -> None:
    foreign = sorted(key for key, value in config.items() if value and _FOREIGN.search(key))
    if config.get("is_encoder_decoder"):
        foreign.insert(0, "is_encoder_decoder")
    kind = config.get("model_type") or "this model"
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ModelError(
            f"{name}: {kind} keeps more than the keys and values of attention ({', '.join(foreign[:3])}{more}), "
            "and no law here says how much",
            "known are multi-head, grouped-query and multi-query attention, MLA, sliding windows, and layers of each",
        )
    architectures = config.get("architectures")
    if (
        isinstance(architectures, list)
        and architectures
        and not any(str(a).endswith(_GENERATES) for a in architectures)
    ):
        raise ModelError(
            f"{name}: {', '.join(map(str, architectures))} does not generate text, so it keeps no keys and values",
            "name a model whose architecture ends in ForCausalLM",
        )


def _number(config: Mapping[str, Any], name: str, *keys: str) -> int:
    """The first of ``keys`` that has a value. Raises ModelError where none has, or it is no whole number from 1 on."""
    for key in keys:
        if (value := config.get(key)) is not None:
            return _whole(value, name, key)
    raise ModelError(f"{name} says no {keys[0]}", "take config.json of the revision that the weights are of")


def _whole(value: object, name: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{name}: {key} is {value!r}, not a whole number from 1 on", "correct config.json")
    return value


def _sizes(config: Mapping[str, Any], name: str, heads: int) -> tuple[int, int, int]:
    """Elements of MLA's latent vector (0: none), and of one head's key and value."""
    if config.get("kv_lora_rank"):
        rotary = _number(config, name, "qk_rope_head_dim")
        keys = rotary + _number(config, name, "qk_nope_head_dim")
        return _number(config, name, "kv_lora_rank") + rotary, keys, _number(config, name, "v_head_dim")
    given = config.get("head_dim") or config.get("head_size")
    if given is not None:
        size = _whole(given, name, "head_dim")
    else:
        hidden = _number(config, name, "hidden_size", "n_embd", "d_model")
        if hidden % heads:
            raise ModelError(f"{name}: hidden_size {hidden} is no multiple of {heads} attention heads", _CORRECT)
        size = hidden // heads
    value = config.get("v_head_dim")
    return 0, size, _whole(value, name, "v_head_dim") if value is not None else size


def _kv_heads(config: Mapping[str, Any], name: str, heads: int, layer: int, layers: int) -> int:
    given = config.get("num_key_value_heads")
    if given is None and config.get("new_decoder_architecture"):
        given = config.get("num_kv_heads")
    elif given is None and isinstance(config.get("num_kv_heads"), list):
        given = config["num_kv_heads"]
    if isinstance(given, list):
        if len(given) != layers:
            raise ModelError(f"{name}: KV heads of {len(given)} layers are given, there are {layers}", _CORRECT)
        given = given[layer]
    if given is not None:
        return _whole(given, name, "num_key_value_heads")
    return 1 if config.get("multi_query") else heads


def _windows(config: Mapping[str, Any], name: str, layers: int) -> Sequence[int | None]:
    """The window of each layer; None for a layer that looks back at everything."""
    kind, given = config.get("model_type"), config.get("sliding_window")
    types = config.get("layer_types")
    if isinstance(types, list):
        if len(types) != layers:
            raise ModelError(f"{name}: layer_types names {len(types)} layers, there are {layers}", _CORRECT)
        unknown = sorted({str(each) for each in types} - {_FULL, _SLIDING})
        if unknown:
            raise ModelError(
                f"{name}: layers of the kind {', '.join(unknown)} have no law here", f"known are {_FULL}, {_SLIDING}"
            )
        if _SLIDING in types and given is None:
            raise ModelError(f"{name}: layer_types has {_SLIDING}, and sliding_window says no length", _CORRECT)
        window = _whole(given, name, "sliding_window") if _SLIDING in types else None
        return [window if each == _SLIDING else None for each in types]
    if given is None or config.get("use_sliding_window") is False:
        return [None] * layers
    window = _whole(given, name, "sliding_window")
    if config.get("use_sliding_window") and isinstance(config.get("max_window_layers"), int):
        first = config["max_window_layers"]
        return [window if layer >= first else None for layer in range(layers)]
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or _PATTERNS.get(str(kind))
    if pattern is not None:
        every = _whole(pattern, name, "sliding_window_pattern")
        return [None if (layer + 1) % every == 0 else window for layer in range(layers)]
    if kind in _WINDOW_EVERYWHERE:
        return [window] * layers
    raise ModelError(
        f"{name}: sliding_window is {window}, and nothing says which layers of a {kind or 'model without model_type'} "
        "have it",
        f"add layer_types to config.json: {_FULL} or {_SLIDING} for each layer",
    )


def _positions(config: Mapping[str, Any], name: str) -> int | None:
    for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx"):
        if config.get(key) is not None:
            return _whole(config[key], name, key)
    return None
