"""The architectures of GGUF files that can be converted: what each is in Transformers, and its configuration.

Metadata of a GGUF file do not say everything; the rest is fixed for each architecture in llama.cpp, which runs these
files, and is written here with it. Nothing that changes what a model computes is left to a default of Transformers
where the two may differ, and a setting that is not known here is refused (``GgufFile.check_all_read``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from enginegate.core.errors import ModelError
from enginegate.models.gguf_file import USE_ANOTHER, GgufFile, shortest

#: Oldest Transformers in whose keys a configuration is written.
_KEYS_OF = "4.48.0"
#: From this vocabulary on, Transformers asks config.json for its own version, and without it prints a false warning.
_VERSION_ASKED = 100_000
#: Llama 3.1's own numbers for stretched rotary positions, which a GGUF file holds only as what they make of each pair.
_LOW, _HIGH, _ORIGINAL = 1.0, 4.0, 8192
#: Largest relative difference between a table of the file and the one that its formula gives.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Family:
    """What one architecture of GGUF files is in Transformers.

    Attributes:
        model_type, model_class: its names in Transformers.
        settings: configuration beyond what all families share; told the file and the size of a head.
        pairs: rotary positions turn neighbouring rows of the query and key projections, so these rows are in another
            order in Transformers, which turns a head's first half with its second.
        norm_offset: added to the weights of norms in the file.
        ends: tokens that end an answer besides the file's own, where the vocabulary has them.
        begins: a text may begin with BOS. Qwen's files name a BOS that its tokenizer has not.
        eats_space: markers take the white space behind them, other than those named here; None where none does.
    """

    model_type: str
    model_class: str
    settings: Callable[[GgufFile, int], Mapping[str, Any]]
    pairs: bool = False
    norm_offset: float = 0.0
    ends: tuple[str, ...] = ()
    begins: bool = True
    eats_space: frozenset[str] | None = None


def family_of(file: GgufFile) -> Family:
    """The family of a file's architecture. Raises ModelError where it is not known here."""
    family = FAMILIES.get(file.architecture)
    if family is None:
        raise ModelError(
            f"{file.path}: the architecture {file.architecture!r} cannot be converted here; "
            f"{', '.join(sorted(FAMILIES))} can",
            USE_ANOTHER,
        )
    return family


def configuration(file: GgufFile, family: Family, *, vocabulary: int, tied: bool) -> dict[str, Any]:
    """The content of ``config.json``, special tokens apart, in keys that every version of Transformers reads.

    Args:
        file: the GGUF file.
        family: of its architecture.
        vocabulary: rows of the embedding.
        tied: whether the output matrix is the embedding.

    Raises:
        ModelError: metadata are missing or of another kind, or ask for what is not known here.
    """
    hidden, heads = file.integer(".embedding_length"), file.integer(".attention.head_count")
    head = file.integer(".attention.key_length", hidden // heads)
    if head % 2:
        raise ModelError(
            f"{file.path} says heads of {head} values, but rotary positions turn pairs of them", USE_ANOTHER
        )
    file.expect(".attention.value_length", head)
    file.expect(".expert_count", 0)
    file.expect(".expert_used_count", 0)
    file.get(".tensor_data_layout")  # how its maker named the order of rows, which is the architecture's
    config = {
        "architectures": [family.model_class],
        "model_type": family.model_type,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": file.integer(".feed_forward_length"),
        "num_hidden_layers": file.integer(".block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.integer(".attention.head_count_kv", heads),
        "head_dim": head,
        "hidden_act": "silu",
        "max_position_embeddings": file.integer(".context_length"),
        "rms_norm_eps": file.number(".attention.layer_norm_rms_epsilon"),
        "rope_theta": file.number(".rope.freq_base", 10000.0),
        "tie_word_embeddings": tied,
        **family.settings(file, head),
        "torch_dtype": "float32",
    }
    if vocabulary > _VERSION_ASKED:
        config["transformers_version"] = _KEYS_OF
    file.check_all_read()
    return config


def _llama(file: GgufFile, head: int) -> dict[str, Any]:
    _whole_rotation(file, head)
    _no_window(file)
    factors = file.table("rope_freqs.weight")
    stretched = _linear(file) if factors is None else _llama3(file, head, factors)
    return {"attention_bias": False, "mlp_bias": False, **stretched}


def _qwen2(file: GgufFile, head: int) -> dict[str, Any]:
    _usual_head(file, head)
    _whole_rotation(file, head)
    _no_window(file)
    return {"use_sliding_window": False, **_linear(file)}


def _qwen3(file: GgufFile, head: int) -> dict[str, Any]:
    _whole_rotation(file, head)
    _no_window(file)
    return {"attention_bias": False, "use_sliding_window": False, **_linear(file)}


def _phi3(file: GgufFile, head: int) -> dict[str, Any]:
    _usual_head(file, head)
    turned = file.integer(".rope.dimension_count", head)
    if turned > head or turned % 2:
        raise ModelError(f"{file.path} turns {turned} values of a head of {head}", USE_ANOTHER)
    positions = file.integer(".context_length")
    original = file.integer(".rope.scaling.original_context_length", positions)
    padding = file.get("tokenizer.ggml.padding_token_id")
    return {
        "sliding_window": file.integer(".attention.sliding_window", 0, least=0) or None,
        "original_max_position_embeddings": original,
        "partial_rotary_factor": turned / head,
        "pad_token_id": padding,  # Transformers' own default lies outside a small vocabulary
        **_long(file, turned, positions, original),
    }


def _gemma2(file: GgufFile, head: int) -> dict[str, Any]:
    return {
        **_gemma(file, head, large=46),
        "attn_logit_softcapping": file.number(".attn_logit_softcapping", 50.0),
        "final_logit_softcapping": file.number(".final_logit_softcapping", 30.0),
        **_linear(file),
    }


def _gemma3(file: GgufFile, head: int) -> dict[str, Any]:
    file.expect(".attention.sliding_window_pattern", 6)
    return {
        **_gemma(file, head, large=62),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_local_base_freq": file.number(".rope.freq_base_swa", 10000.0),
        **_linear(file),
    }


def _gemma(file: GgufFile, head: int, *, large: int) -> dict[str, Any]:
    """What both share. The largest model, of ``large`` layers, scales queries by the hidden size's share of a head."""
    _whole_rotation(file, head)
    share = file.integer(".embedding_length") // file.integer(".attention.head_count")
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "sliding_window": file.integer(".attention.sliding_window"),
        "query_pre_attn_scalar": share if file.integer(".block_count") == large else head,
    }


def _whole_rotation(file: GgufFile, head: int) -> None:
    file.expect(".rope.dimension_count", head)


def _usual_head(file: GgufFile, head: int) -> None:
    """Older versions of Transformers know no other size of a head for this family."""
    hidden, heads = file.integer(".embedding_length"), file.integer(".attention.head_count")
    if head * heads != hidden:
        raise ModelError(
            f"{file.path} says {heads} heads of {head} values, which are not the {hidden} of a token", USE_ANOTHER
        )


def _no_window(file: GgufFile) -> None:
    """A window of attention as long as the context is none."""
    window, positions = file.integer(".attention.sliding_window", 0, least=0), file.integer(".context_length")
    if 0 < window < positions:
        file.expect(".attention.sliding_window", 0)


def _linear(file: GgufFile) -> dict[str, Any]:
    """Rotary positions divided by a factor, or plain ones; other ways to stretch them are refused."""
    file.expect(".rope.scaling.type", "none", "linear")
    if file.get(".rope.scaling.type", "none") == "none":
        return {}
    factor = file.number(".rope.scaling.factor")
    return {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": factor}}


def _llama3(file: GgufFile, head: int, factors: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Llama 3.1's way to stretch rotary positions, of which the file holds what each pair's frequency is divided by."""
    file.expect(".rope.scaling.type", "none")
    lengths = 2 * math.pi * file.number(".rope.freq_base", 10000.0) ** (np.arange(0, head, 2) / head)
    factor = shortest(float(factors.max(initial=1.0)))
    share = np.clip((_ORIGINAL / lengths - _LOW) / (_HIGH - _LOW), 0.0, 1.0)
    expected = 1 / ((1 - share) / factor + share)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=_ROUNDING, atol=0.0):
        raise ModelError(
            f"{file.path}: rope_freqs.weight is not Llama 3.1's table of rotary positions (low 1, high 4, 8,192 "
            "positions), and no other is known here",
            USE_ANOTHER,
        )
    return {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": _LOW,
            "high_freq_factor": _HIGH,
            "original_max_position_embeddings": _ORIGINAL,
        }
    }


def _long(file: GgufFile, turned: int, positions: int, original: int) -> dict[str, Any]:
    """Phi's way to stretch rotary positions: a factor for each pair, in short and in long texts."""
    file.expect(".rope.scaling.type", "none", "longrope")
    tables = {name: file.table(f"rope_factors_{name}.weight") for name in ("short", "long")}
    strength = file.number(".rope.scaling.attn_factor", 1.0)
    present = {name: table for name, table in tables.items() if table is not None}
    ratio = positions / original
    expected = math.sqrt(1 + math.log(ratio) / math.log(original)) if present and ratio > 1 and original > 1 else 1.0
    sound = len(present) in (0, 2) and all(table.shape == (turned // 2,) for table in present.values())
    if not sound or not math.isclose(strength, expected, rel_tol=1e-3):
        raise ModelError(
            f"{file.path}: its rotary positions (rope_factors_short, rope_factors_long, attn_factor {strength:g}) are "
            f"not those of a Phi with {positions} positions, trained with {original}",
            USE_ANOTHER,
        )
    if not present:
        return {}
    factors = {f"{name}_factor": [shortest(value) for value in table.tolist()] for name, table in present.items()}
    return {"rope_scaling": {"type": "longrope", "rope_type": "longrope", **factors}}


#: By architecture, as GGUF files name it.
FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        "llama",
        "LlamaForCausalLM",
        _llama,
        pairs=True,
        ends=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    ),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", _qwen2, ends=("<|im_end|>", "<|endoftext|>"), begins=False),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", _qwen3, ends=("<|im_end|>", "<|endoftext|>"), begins=False),
    "phi3": Family(
        "phi3",
        "Phi3ForCausalLM",
        _phi3,
        ends=("<|end|>", "<|endoftext|>"),
        eats_space=frozenset(("<unk>", "<s>", "<|endoftext|>")),
    ),
    "gemma2": Family("gemma2", "Gemma2ForCausalLM", _gemma2, norm_offset=1.0, ends=("<eos>", "<end_of_turn>")),
    "gemma3": Family("gemma3_text", "Gemma3ForCausalLM", _gemma3, norm_offset=1.0, ends=("<eos>", "<end_of_turn>")),
}
