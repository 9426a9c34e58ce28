from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.specs import EngineSpec, RuntimeSpec, Timeouts, Workload
from enginegate.engines.process.memory_pass import mapped_bytes
from enginegate.machine import processes
from enginegate.measure.memory import measure_memory

from tests_harness.fakes import faulty


def test_files_of_the_engine_count_whole_from_being_mapped_and_nothing_else(tmp_path: Path) -> None:
    """Not from being read; and a folder whose name begins alike is another engine's."""
    folder = tmp_path.resolve() / "engine"
    sizes = {folder / "with a space.bin": 1 << 20, Path(f"{folder}-of-another") / "model.bin": 1 << 21}
    with ExitStack() as stack:
        for file, size in sizes.items():
            file.parent.mkdir()
            file.write_bytes(bytes(size))
            stream = stack.enter_context(file.open("rb"))
            stack.enter_context(mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ))
        assert mapped_bytes(folder) == 1 << 20
        assert mapped_bytes(tmp_path.resolve() / "nothing") == 0
    assert mapped_bytes(folder) == 0


def test_a_memory_pass_that_hangs_is_ended_with_all_it_started(tmp_path: Path, monkeypatch) -> None:
    """Only the child itself was ended, and no configuration could give it longer."""
    site = tmp_path / "site"
    site.mkdir()
    faulty.install(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    spec = EngineSpec("forks,daemon,hangs-in-load", "faulty", "fp32")
    why = r"(?s)memory pass of .* gave no sign of life for 3 s.*loading forks.*raise timeouts.memory"
    with pytest.raises(MeasurementError, match=why):
        measure_memory(tmp_path, 0, spec, RuntimeSpec(), [[1]], Workload(1, 1, 1), Timeouts(memory=3))
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
