"""The suite that every backend must pass, on both adapters over the fake package."""

from __future__ import annotations

import pytest
from enginegate.testing import Conformance

pytest.importorskip("transformers")


@pytest.mark.version("1.2.1")
class TestEngineInt8(Conformance):
    backend, precision, exact = "trtllm-engine", "int8_wo", True


@pytest.mark.version("1.0.0")
class TestEngineFp16OldestRelease(Conformance):
    backend, precision, exact = "trtllm-engine", "fp16", True


@pytest.mark.version("1.3.0rc5")
class TestTorchBf16(Conformance):
    backend, precision, exact = "trtllm-torch", "bf16", True
