from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from enginegate.core.errors import CapabilityError, ConfigError, EngineError
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines import registry
from enginegate.engines.base import Capabilities, Capability, Effective
from enginegate.engines.effective import check_effective
from enginegate.engines.registry import check_precision, load_backend
from enginegate.engines.trtllm.options import TensorRtRuntime
from enginegate.machine import cpu


def test_unknown_backend_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"known are .*hf.*openvino") as caught:
        load_backend("vlmm")
    assert "install the package that brings it" in caught.value.hint


def test_finding_backends_and_capabilities_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from enginegate.engines.registry import load_backend\n"
        "for name in ('hf', 'openvino'): load_backend(name).capabilities(); load_backend(name).version()\n"
        "print([m for m in ('torch', 'transformers', 'openvino', 'optimum', 'nncf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _Half:
    """A backend that is not one: it has a name and nothing else."""

    name = "half"


def test_third_party_backend_is_found_by_its_entry_point(monkeypatch):
    offered = [
        EntryPoint("other", "enginegate.engines.hf.backend:HuggingFaceBackend", registry.GROUP),
        EntryPoint("half", f"{__name__}:_Half", registry.GROUP),
        EntryPoint("broken", "no_such_module_here:Backend", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda **_: offered)
    assert "other" in registry.known_backends()
    assert load_backend("other").name == "hf"
    with pytest.raises(ConfigError, match="lacks a part"):
        load_backend("half")
    with pytest.raises(CapabilityError, match="cannot be imported") as caught:
        load_backend("broken")
    assert "enginegate[" not in str(caught.value), "another package brings it, and enginegate has no such extra"
    assert "install what the package that brings it needs" in str(caught.value)


@pytest.mark.parametrize("backend", ["hf", "openvino"])
def test_missing_library_is_a_reason_with_its_hint(backend, monkeypatch):
    monkeypatch.setattr(cpu, "missing_modules", lambda _: ["thelibrary"])
    with pytest.raises(CapabilityError, match=rf"thelibrary not installed: pip install 'enginegate\[{backend}\]'"):
        check_precision(load_backend(backend), "fp32")
    with pytest.raises(CapabilityError, match="thelibrary"):
        load_backend(backend).load(None, EngineSpec("m", backend, "fp32"), RuntimeSpec())


def test_capabilities_follow_the_cpu(monkeypatch):
    monkeypatch.setattr(cpu, "missing_modules", lambda _: [])
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    without = load_backend("openvino").capabilities().precisions
    assert not without["bf16"].supported
    assert "bf16" in without["bf16"].reason
    assert "computes in fp32" in without["fp16"].reason
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"amx_bf16", "avx512_fp16"}))
    assert load_backend("openvino").capabilities().precisions["bf16"] == Capability(True)


class _Limited:
    name = "limited"

    def capabilities(self):
        return Capabilities(
            {"fp32": Capability(True), "fp8": Capability(False, "needs a newer card")},
            {"fp16": Capability(True)},
            "cpu",
        )


def test_precision_check_tells_unknown_from_unsupported():
    check_precision(_Limited(), "fp32")
    check_precision(_Limited(), "fp32", "fp16")
    with pytest.raises(CapabilityError, match="cannot do precision fp8 here: needs a newer card"):
        check_precision(_Limited(), "fp8")
    with pytest.raises(CapabilityError, match="has no precision 'int2'"):
        check_precision(_Limited(), "int2")
    with pytest.raises(CapabilityError, match="has no KV precision 'int8'"):
        check_precision(_Limited(), "fp32", "int8")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"precision": "int4_wo"}, "weights are int4_wo, asked was int8_wo"),
        ({"kv_precision": "fp16"}, "KV cache is fp16, asked was int8"),
        ({"activation_precision": "bf16"}, "computes in bf16, asked was fp32"),
        ({"max_length": 1535}, "may have 1535 tokens, asked was 1536"),
        ({"threads": 1}, "runs 1 threads, asked were 2"),
    ],
)
def test_each_mismatch_is_an_error(found, said):
    asked = EngineSpec("m", "openvino", "int8_wo")
    runtime = RuntimeSpec(kv_precision="int8", activation_precision="fp32", threads=2)
    right = {"precision": "int8_wo", "kv_precision": "int8", "activation_precision": "fp32", "max_length": 1536}
    check_effective(asked, runtime, Effective(**right, threads=2))
    with pytest.raises(EngineError, match=said):
        check_effective(asked, runtime, Effective(**{**right, "threads": 2, **found}))
    if "max_length" not in found and "precision" not in found:
        check_effective(asked, RuntimeSpec(), Effective(**{**right, "threads": 2, **found}))


RIGHT = {
    "precision": "int8_wo",
    "kv_precision": "fp16",
    "activation_precision": "fp32",
    "max_length": 1536,
    "threads": 2,
}
ASKED = EngineSpec("m", "openvino", "int8_wo")


@pytest.mark.parametrize(
    ("asked", "told", "said"),
    [
        (
            {"scheduler_policy": "static"},
            {"scheduler_policy": "inflight"},
            "scheduler_policy is inflight, asked was static",
        ),
        ({"chunked_prefill": True}, {"chunked_prefill": False}, "chunked_prefill is False, asked was True"),
        ({"speculation": "ngram"}, {"speculation": "none"}, "speculation is none, asked was ngram"),
        ({"tokens_per_block": 64}, {"tokens_per_block": 16}, "tokens_per_block is 16, asked was 64"),
    ],
)
def test_scheduling_that_was_asked_for_is_compared(asked, told, said):
    """None of these was: an engine could drop them without a word."""
    runtime = RuntimeSpec(**asked)
    check_effective(ASKED, runtime, Effective(**RIGHT, **asked))
    check_effective(ASKED, RuntimeSpec(), Effective(**RIGHT, **told))  # a default leaves it to the backend
    with pytest.raises(EngineError, match=said):
        check_effective(ASKED, runtime, Effective(**RIGHT, **told))
    (name,) = asked
    with pytest.raises(EngineError, match=f"does not say its {name}, asked was"):
        check_effective(ASKED, runtime, Effective(**RIGHT))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"speculation": "ngram"}, "speculation is ngram, asked was none"),
        ({"chunked_prefill": True}, "chunked_prefill is True, asked was False"),
    ],
)
def test_scheduling_that_nobody_asked_for_is_found_out(told, said):
    """An engine that speculated unasked won its speed-up by it."""
    with pytest.raises(EngineError, match=said):
        check_effective(ASKED, RuntimeSpec(), Effective(**RIGHT, **told))


@pytest.mark.parametrize(
    ("pool", "blocks", "said"),
    [
        (1000, 10, ""),
        (950, 10, ""),  # another block of 95 bytes would be too much
        (900, 10, "has 900 bytes, asked were 1000"),  # of 90 bytes it would not
        (1001, 10, "has 1001 bytes, asked were 1000"),
        (None, None, "does not say how large its KV pool is, asked were 1000"),
    ],
)
def test_a_pool_of_another_size_is_found_out(pool, blocks, said):
    found = Effective(**RIGHT, kv_pool_bytes=pool, kv_blocks=blocks)
    check_effective(ASKED, RuntimeSpec(), found)
    if not said:
        check_effective(ASKED, RuntimeSpec(kv_cache_bytes=1000), found)
        return
    with pytest.raises(EngineError, match=said):
        check_effective(ASKED, RuntimeSpec(kv_cache_bytes=1000), found)


def test_the_smaller_of_two_limits_decides_the_pool():
    runtime = TensorRtRuntime(kv_cache_bytes=1000, kv_cache_tokens=1)
    check_effective(ASKED, runtime, Effective(**RIGHT, kv_pool_bytes=100, kv_blocks=1))
