"""Several cards of one machine: leased together, watched together. NVML is a stand-in with two cards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import MeasurementError
from harness.measure.gpu import DeviceMonitor
from harness.measure.lease import VISIBLE, lease_devices
from harness.measure.memory import _GpuMeter


@pytest.fixture
def nvml(monkeypatch):
    """The stand-in module; afterwards another test may import another one."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "fakes_nvml"))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv(VISIBLE, raising=False)
    import pynvml

    yield pynvml
    monkeypatch.delitem(sys.modules, "pynvml")


@pytest.mark.usefixtures("nvml")
def test_a_lease_takes_all_the_cards_it_needs_or_none(tmp_path, monkeypatch):
    one = lease_devices(tmp_path)
    assert one.uuids == ("GPU-0",)
    assert os.environ[VISIBLE] == "GPU-0"
    monkeypatch.delenv(VISIBLE)
    with pytest.raises(MeasurementError, match="free are 1, needed 2"):
        lease_devices(tmp_path, 2)
    other = lease_devices(tmp_path)
    assert other.uuids == ("GPU-1",), "the failed lease kept nothing"
    one.release()
    other.release()
    monkeypatch.delenv(VISIBLE)
    both = lease_devices(tmp_path, 2)
    assert both.uuids == ("GPU-0", "GPU-1")
    assert os.environ[VISIBLE] == "GPU-0,GPU-1"
    both.release()
    with pytest.raises(MeasurementError, match="are needed, visible are 2"):
        lease_devices(tmp_path, 3)


def test_the_second_card_is_watched_too(nvml, monkeypatch):
    hot, intruder = 0x40, 999999999
    monkeypatch.setattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda handle: hot if handle else 0)
    monkeypatch.setattr(
        nvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: [SimpleNamespace(pid=intruder)] if handle else []
    )
    monitor = DeviceMonitor()
    assert monitor.read().celsius == 40, "what is recorded is the first card's"
    assert monitor.read().reasons == ["HwThermalSlowdown"]
    assert list(monitor.foreign()) == [intruder]
    monkeypatch.setenv(VISIBLE, "GPU-0")
    alone = DeviceMonitor()
    assert alone.read().reasons == []
    assert alone.foreign() == {}
    monitor.close()
    alone.close()


def test_memory_is_not_measured_on_a_card_that_another_process_has(nvml, monkeypatch):
    fake = SimpleNamespace(zeros=lambda *_, **__: None, cuda=SimpleNamespace(synchronize=lambda: None))
    monkeypatch.setitem(sys.modules, "torch", fake)
    meter = _GpuMeter(devices=1)
    assert meter.used() == 2 << 30, "1 GiB on each of two cards"
    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", lambda _: [SimpleNamespace(pid=999999999)])
    with pytest.raises(MeasurementError, match="in use by process 999999999"):
        meter.used()
