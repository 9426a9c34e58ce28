"""The engines' fixtures with the fake TensorRT-LLM in place of the package, and pretended GPUs."""

from __future__ import annotations

import sys

import pytest
from enginegate.engines.trtllm import child, engine_backend, gpu, torch_backend
from enginegate.testing.fixtures import calibration, checkpoint, shared_engine, workshop

from tests_harness.trtllm import fake_site

__all__ = ["calibration", "checkpoint", "shared_engine", "workshop"]

HOPPER = gpu.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    return tmp_path_factory.mktemp("sites")


@pytest.fixture(autouse=True)
def fake(request, sites, monkeypatch):
    """The fake of the version that the test's class or ``version`` marker names, and one H100."""
    marker = request.node.get_closest_marker("version")
    version = marker.args[0] if marker else "1.2.1"
    monkeypatch.setattr(gpu, "devices", lambda: [HOPPER])
    if version is None:
        fake_site.remove()
    elif getattr(sys.modules.get("tensorrt_llm"), "__version__", "") != version:
        fake_site.install(sites, version)
    return version


@pytest.fixture(autouse=True)
def in_process(request, monkeypatch):
    """Builds happen here, so that what they use is recorded; a test marked ``child`` has them in a child as ever."""
    if request.node.get_closest_marker("child"):
        return

    def build(function, spec, checkpoint, out_dir, _progress):
        child.call(function, spec, checkpoint, out_dir)

    for module in (engine_backend, torch_backend):
        monkeypatch.setattr(module, "build_in_child", build)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "version(text): version that the fake TensorRT-LLM pretends to be; None for none"
    )
    config.addinivalue_line("markers", "child: builds run in a child process, as they do outside of tests")
