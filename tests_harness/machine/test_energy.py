"""Energy where the device tells: RAPL below powercap, NVML; and why not, elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from enginegate.machine.energy import EnergyMeter, described, energy_meter

FAKES = Path(__file__).resolve().parents[1] / "fakes_nvml"


def zone(root: Path, name: str, number: int, joules: float) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    return folder


def test_packages_are_summed_and_what_is_no_package_is_left_out(tmp_path: Path) -> None:
    one, other, whole = (zone(tmp_path, *at) for at in (("package-0", 0, 5.0), ("package-1", 1, 7.0), ("psys", 2, 1.0)))
    meter = energy_meter("cpu", tmp_path)
    assert isinstance(meter, EnergyMeter)
    assert meter.source == "RAPL, package-0, package-1"
    before = meter.read()
    (one / "energy_uj").write_text("6500000")
    (other / "energy_uj").write_text("7250000")
    (whole / "energy_uj").write_text("999000000")
    assert meter.between(before, meter.read()) == pytest.approx(1.75)


def test_a_counter_that_begins_anew(tmp_path: Path) -> None:
    folder = zone(tmp_path, "package-0", 0, 262143.0)
    meter = energy_meter("cpu", tmp_path)
    assert isinstance(meter, EnergyMeter)
    before = meter.read()
    (folder / "energy_uj").write_text("1000000")
    assert meter.between(before, meter.read()) == pytest.approx(1.32885)
    (folder / "energy_uj").unlink()
    assert meter.between(before, meter.read()) is None, "it is gone: nothing is guessed"


def test_a_machine_that_does_not_tell_says_why(tmp_path: Path) -> None:
    assert "no package of RAPL below" in str(energy_meter("cpu", tmp_path))
    (zone(tmp_path, "package-0", 0, 1.0) / "energy_uj").write_text("x")
    assert "cannot be read" in str(energy_meter("cpu", tmp_path))


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in module, with both of its cards visible; afterwards another test may import another one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        patch.delitem(sys.modules, "pynvml", raising=False)
        import pynvml

        yield pynvml
        del sys.modules["pynvml"]


def test_the_energy_of_the_visible_cards(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {0: 1000, 1: 5000}
    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", spent.__getitem__)
    meter = energy_meter("cuda")
    assert isinstance(meter, EnergyMeter)
    before = meter.read()
    spent |= {0: 1500, 1: 6000}
    assert meter.between(before, meter.read()) == pytest.approx(1.5)
    spent[1] = 0
    assert meter.between(before, meter.read()) is None, "a counter without an end went back: the driver was loaded anew"
    assert described(has_gpu=True) == "NVML, total energy of the visible cards"


@pytest.mark.usefixtures("nvml")
def test_a_card_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEGATE_FAKE_ENERGY", "none")
    assert energy_meter("cuda") == "this card or driver has no counter of energy (not supported)"
    monkeypatch.setenv("ENGINEGATE_FAKE_GPUS", "0")
    assert energy_meter("cuda") == "NVML shows no card"
