from __future__ import annotations

import mmap
from pathlib import Path

import psutil
import pytest
from enginegate.core.errors import MeasurementError
from enginegate.core.specs import EngineSpec, RuntimeSpec, Timeouts, Workload
from enginegate.machine import processes
from enginegate.measure.memory import SMAPS, mapped_bytes, measure_memory

from tests_harness.fakes import faulty

TEXT = """\
7f0000000000-7f0000400000 r--s 00000000 fe:00 123 /cache/engine/model.bin
Size:               4096 kB
Rss:                  64 kB
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                1024 kB
7f0000500000-7f0000600000 r-xp 00000000 fe:00 124 /cache/engine-of-another/model.bin
Size:               1024 kB
7f0000600000-7f0000601000 r--p 00001000 fe:00 125 /cache/engine/with a space.bin
Size:                  4 kB
7f0000601000-7f0000602000 rw-p 00000000 00:00 0 [stack]
Size:                  4 kB
"""


def test_files_of_the_engine_count_whole_and_nothing_else() -> None:
    assert mapped_bytes(TEXT, Path("/cache/engine")) == (4096 + 4) * 1024
    assert mapped_bytes(TEXT, Path("/cache/nothing")) == 0


def test_a_file_counts_from_being_mapped_and_not_from_being_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(1 << 20))
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        assert mapped_bytes(SMAPS.read_text(), tmp_path.resolve()) == 1 << 20
    assert mapped_bytes(SMAPS.read_text(), tmp_path.resolve()) == 0


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
