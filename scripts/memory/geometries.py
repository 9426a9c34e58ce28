"""Shapes whose memory is predicted and then measured: small ones of every kind of attention that OpenVINO exports."""

from __future__ import annotations

from typing import Any, NamedTuple

from enginegate.models.randomized import GEOMETRIES, ModelShape


class Case(NamedTuple):
    """One engine, and the batch that it answers."""

    name: str
    shape: ModelShape
    precision: str
    kv_precision: str
    batch_size: int
    prompt: int
    output: int


def _llama(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, **more: Any) -> ModelShape:
    config = GEOMETRIES["tiny"].config | {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 8192,
        **more,
    }
    return ModelShape(config, "bfloat16")


def _kind(kind: str, architecture: str, hidden: int, layers: int, kv_heads: int, **more: Any) -> ModelShape:
    named = {"model_type": kind, "architectures": [architecture]}
    return _llama(hidden, 3 * hidden, layers, 8, kv_heads, **named, **more)


_WINDOW = {"sliding_window": 64}

CPU = (
    Case("multi-head", _llama(256, 704, 8, 8, 8), "fp32", "fp32", 2, 256, 16),
    Case("grouped-query", _llama(384, 1024, 12, 6, 2), "fp32", "fp16", 4, 256, 16),
    Case("multi-query", _llama(512, 1408, 8, 8, 1), "int8_wo", "int8", 4, 256, 16),
    Case("deep", _llama(256, 768, 24, 4, 2), "int8_wo", "int8", 2, 512, 16),
    Case("wide", _llama(1024, 2816, 4, 16, 4), "int8_wo", "int8", 2, 256, 16),
    Case("long", _llama(256, 704, 6, 8, 8), "fp32", "int8", 1, 1500, 16),
    Case("batch of 8", _llama(320, 896, 10, 5, 5), "int8_wo", "int4", 8, 128, 16),
    Case("wide heads", _llama(512, 1024, 8, 4, 2, head_dim=256), "fp32", "fp16", 2, 256, 16),
    Case("4-bit weights", _llama(512, 1536, 12, 8, 4), "int4_wo", "int8", 4, 256, 16),
    Case("window everywhere", _kind("mistral", "MistralForCausalLM", 384, 8, 2, **_WINDOW), "fp32", "fp16", 2, 512, 16),
    Case(
        "window in some",
        _kind("qwen2", "Qwen2ForCausalLM", 384, 8, 2, use_sliding_window=True, max_window_layers=4, **_WINDOW),
        "fp32",
        "fp16",
        2,
        512,
        16,
    ),
    Case("biases", _kind("qwen2", "Qwen2ForCausalLM", 448, 10, 2), "int8_wo", "int8", 4, 256, 16),
    Case("no gate", GEOMETRIES["distilgpt2"], "int8_wo", "int8", 2, 256, 16),
    Case("tied embedding", GEOMETRIES["smollm2-135m"], "int8_wo", "int8", 4, 256, 16),
)

GPU = (
    Case("distilgpt2", GEOMETRIES["distilgpt2"], "fp16", "fp16", 8, 256, 32),
    Case("smollm2-135m", GEOMETRIES["smollm2-135m"], "bf16", "bf16", 8, 512, 32),
    Case("tinyllama-1.1b", GEOMETRIES["tinyllama-1.1b"], "bf16", "bf16", 8, 512, 32),
    Case("tinyllama-1.1b, fp8 cache", GEOMETRIES["tinyllama-1.1b"], "bf16", "fp8", 8, 512, 32),
    Case("qwen2.5-1.5b", GEOMETRIES["qwen2.5-1.5b"], "bf16", "bf16", 8, 512, 32),
    Case("phi-2", GEOMETRIES["phi-2"], "fp16", "fp16", 4, 512, 32),
    Case(
        "window in some",
        ModelShape(
            _kind("gemma2", "Gemma2ForCausalLM", 1024, 12, 4, head_dim=128, sliding_window=256).config
            | {"tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"},  # vLLM takes no other
            "bfloat16",
        ),
        "bf16",
        "bf16",
        4,
        1024,
        32,
    ),
)
