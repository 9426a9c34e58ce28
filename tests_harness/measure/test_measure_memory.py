from __future__ import annotations

import mmap
from pathlib import Path

from enginegate.measure.memory import SMAPS, mapped_bytes

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
