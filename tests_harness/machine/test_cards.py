"""Several cards of one machine: leased together, watched together. NVML is a stand-in with two cards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.specs import RuntimeSpec
from enginegate.engines.base import MemoryUse
from enginegate.engines.process.memory_pass import memory_pass
from enginegate.machine.card import Card, _measure, measure_card
from enginegate.machine.gpu import DeviceMonitor, occupancy, refuse_busy
from enginegate.machine.lease import VISIBLE, lease_devices

GIB = 1 << 30


@pytest.fixture
def nvml(monkeypatch):
    """The stand-in module; afterwards another test may import another one."""
    monkeypatch.delenv(VISIBLE, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "fakes_nvml"))
        patch.delitem(sys.modules, "pynvml", raising=False)
        import pynvml

        yield pynvml
        del sys.modules["pynvml"]


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


@pytest.mark.usefixtures("nvml")
@pytest.mark.parametrize(
    ("environment", "state"),
    [
        ({}, "free"),
        ({"ENGINEGATE_FAKE_INTRUDER": "999999999"}, "busy"),
        ({"ENGINEGATE_FAKE_LIST": "refused"}, "unknown"),
    ],
)
def test_a_card_is_free_busy_or_unknown(environment, state, monkeypatch):
    """A driver that gives no list of processes counted as a free card."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert [each.state for each in occupancy()] == [state, state]


@pytest.mark.usefixtures("nvml")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ENGINEGATE_FAKE_LIST": "refused"}, "Imaginary GPU: its driver does not list the processes on it"),
        ({"ENGINEGATE_FAKE_LIST": "none"}, "not even this session's own"),
        ({"ENGINEGATE_FAKE_GPUS": "0"}, "NVML shows no visible card"),
    ],
)
def test_timing_beside_who_knows_whom_is_said_once(environment, said, monkeypatch):
    """All three passed for a card without others on it, in silence."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monitor = DeviceMonitor()
    monitor.refuse_busy()
    assert monitor.foreign() == monitor.foreign() == {}
    warnings = "".join(monitor.warnings)
    assert said in warnings
    assert warnings.count("it is not known whether others use the GPU") == len(monitor.warnings) <= 2
    monitor.close()


@pytest.mark.usefixtures("nvml")
def test_a_card_of_our_own_has_nothing_to_warn_of(monkeypatch):
    monitor = DeviceMonitor()
    monitor.refuse_busy()
    assert (monitor.foreign(), monitor.warnings) == ({}, [])
    monkeypatch.setenv("ENGINEGATE_FAKE_INTRUDER", "999999999")
    with pytest.raises(MeasurementError, match="in use by process 999999999"):
        monitor.refuse_busy()
    monitor.close()


@pytest.mark.usefixtures("nvml")
@pytest.mark.parametrize("environment", [{"ENGINEGATE_FAKE_LIST": "refused"}, {"ENGINEGATE_FAKE_GPUS": "0"}])
def test_memory_is_not_measured_where_others_cannot_be_seen(environment, monkeypatch):
    """The device counts the memory of all together."""
    refuse_busy()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MeasurementError, match="it is not known whether the GPU is free"):
        refuse_busy()


@pytest.fixture
def used(nvml, monkeypatch):
    """Bytes in use on each of the two cards, as NVML will tell."""
    cards = [GIB, GIB]
    monkeypatch.setattr(
        nvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(used=cards[handle], total=80 * GIB)
    )
    return cards


@pytest.fixture
def intrude(nvml, monkeypatch):
    """Has a process of somebody else's come onto both cards."""

    def come() -> None:
        monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", lambda _: [SimpleNamespace(pid=999999999)])

    return come


def memory_over(
    used: list[int], monkeypatch: pytest.MonkeyPatch, loading: Callable[[], None], weights: int = 3 * GIB
) -> dict[str, object]:
    """The memory pass over an engine on two cards, each with a context of 0.5 GiB and 2 GiB of its own."""

    def load(*_: object) -> SimpleNamespace:
        used[:] = [each + GIB // 2 + 2 * GIB for each in used]
        loading()
        return SimpleNamespace(
            generate=lambda *_: used.__setitem__(1, used[1] + GIB),
            memory=lambda: MemoryUse(kv_cache_predicted=None, kv_cache=None, kv_budget=None, weights=weights),
            close=lambda: None,
        )

    backend = SimpleNamespace(libraries=(), load=load)
    monkeypatch.setattr("enginegate.engines.process.memory_pass.load_backend", lambda _: backend)
    spec = SimpleNamespace(id="pretended", backend="pretended", tensor_parallel=2)
    return memory_pass("fake", Path("engine"), spec, RuntimeSpec(), [[1]], 1, GIB // 2)


def test_memory_over_two_cards_counts_no_context(used, monkeypatch):
    found = memory_over(used, monkeypatch, loading=lambda: None)
    assert found["loaded"] == 4 * GIB
    assert found["peak"] == 5 * GIB
    assert found["contexts"] == GIB


def test_an_engine_smaller_than_its_weights_is_no_measurement(used, monkeypatch):
    with pytest.raises(MeasurementError, match="NVML counts 4,294,967,296 bytes for an engine whose"):
        memory_over(used, monkeypatch, loading=lambda: None, weights=5 * GIB)


def test_memory_is_not_measured_on_a_card_that_another_process_has(used, intrude, monkeypatch):
    with pytest.raises(MeasurementError, match="in use by process 999999999"):
        memory_over(used, monkeypatch, loading=intrude)


def test_a_context_is_what_opening_it_takes(used, intrude, monkeypatch):
    class Event:
        """Of a device that copies 2 GiB in a millisecond."""

        def __init__(self, **_: object) -> None: ...

        def record(self) -> None: ...

        def synchronize(self) -> None: ...

        def elapsed_time(self, _: Event) -> float:
            return 1.0

    def zeros(*_: object, **__: object) -> None:
        used[0] += GIB // 2

    cuda = SimpleNamespace(synchronize=lambda: None, empty_cache=lambda: None, Event=Event)
    tensor = SimpleNamespace(copy_=lambda _: None)
    torch = SimpleNamespace(
        zeros=zeros, cuda=cuda, uint8=None, randint=lambda *_, **__: tensor, empty_like=lambda _: tensor
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert _measure() == Card("Imaginary GPU", GIB // 2, 2 * (1 << 31) / 1e-3)
    monkeypatch.setenv("ENGINEGATE_FAKE_LIST", "none")  # others' memory would be counted as ours, and nobody would know
    with pytest.raises(MeasurementError, match="not even this session's own"):
        _measure()
    monkeypatch.delenv("ENGINEGATE_FAKE_LIST")
    intrude()
    with pytest.raises(MeasurementError, match="in use by process 999999999"):
        _measure()


def test_the_card_is_measured_once_and_in_a_process_of_its_own(monkeypatch):
    asked = []

    def run_module(module: str, *_: object, **__: object) -> dict[str, object]:
        asked.append(module)
        return {"name": "Imaginary GPU", "context_bytes": 1, "copy_bytes_per_second": 2.0}

    monkeypatch.setattr("enginegate.machine.card.run_module", run_module)
    measure_card.cache_clear()
    assert measure_card() == measure_card() == Card("Imaginary GPU", 1, 2.0)
    assert asked == ["enginegate.machine.card"]
    measure_card.cache_clear()
