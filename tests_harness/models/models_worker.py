"""A process that makes a checkpoint in the cache and may die at it: ``models_worker.py CACHE MOMENT``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import enginegate.core.cache
import enginegate.models.sources
from models_fakes import write_small_checkpoint


def main(cache: Path, moment: str) -> None:
    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def make(folder: Path) -> None:
        with (cache / "made.log").open("a") as log:
            log.write("made\n")
        if moment == "slow":
            time.sleep(0.5)
        (folder / "config.json").write_text("{")
        if moment == "half made":
            die()
        write_small_checkpoint(folder)

    if moment == "made":
        enginegate.models.sources.check_checkpoint = die
    elif moment == "before the rename":
        enginegate.core.cache._sync_tree = die
    folder, digest = enginegate.models.sources._made_once(
        "small", make, cache, lambda line: print(line, file=sys.stderr)
    )
    print(folder, digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
