"""Where the noise of a GPU engine's rounds comes from: the same rounds beside a fixed piece of work for the CPU.

    python scripts/gpu/steadiness.py [--model smollm2-135m] [--precision fp16] [--batch-size 8] [--rounds 30]

Before and after each round the engine's own thread runs a loop of a fixed length, so that a core which is slow at the
moment shows. Prints, for rounds in a row and rounds after a second of sleep, where the system puts the thread and on
the core that was quietest just before: how much they scatter, how the slow ones go with the loop, and on which cores
they ran.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from harness.bench import ModelBench
from harness.engines.registry import load_backend
from harness.measure.cores import allowed_cores, take_quietest_core
from harness.measure.host import quiet_process
from harness.measure.prompts import PromptPool
from harness.specs import SamplingParams

_LOOP = 40_000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    bench = ModelBench.named(arguments.model, lambda line: print(f".. {line}", file=sys.stderr))
    spec = bench.config.spec("vllm", arguments.precision)
    engine = load_backend("vllm").load(bench.build(spec).path, spec, bench.config.runtime("vllm"))
    workload = bench.config.workload(arguments.batch_size)
    pool = PromptPool.from_texts([bench.tokenizer.encode(__doc__ or "")], workload.input_len)
    params = SamplingParams(workload.output_len, ignore_eos=True)
    everywhere = allowed_cores()
    for name, choose, pause in (
        ("in a row", False, 0.0),
        ("after 1 s of sleep", False, 1.0),
        ("in a row, on the quietest core", True, 0.0),
        ("after 1 s of sleep, on the quietest core", True, 1.0),
    ):
        rows = []
        for index in range(-3, arguments.rounds):
            prompts = pool.batch(workload.batch_size, workload.input_len, seed=1, round_index=index)
            time.sleep(pause)
            if choose:
                take_quietest_core(everywhere)
            engine.generate(prompts, SamplingParams(4, ignore_eos=True))
            with quiet_process():
                before, core, stolen = _loop(), _core(), _stolen()
                start = time.perf_counter()
                engine.generate(prompts, params)
                seconds = time.perf_counter() - start
                after = _loop()
            if index >= 0:
                rows.append((seconds, (before + after) / 2, core == _core(), core, _stolen() - stolen))
        seconds, loops = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        together = float(np.corrcoef(seconds, loops)[0, 1])
        print(
            f"{spec.id} {workload.id} {name}: median {1e3 * np.median(seconds):.1f} ms, fastest "
            f"{1e3 * seconds.min():.1f}, slowest {1e3 * seconds.max():.1f}, CV {seconds.std() / seconds.mean():.1%}; "
            f"loop {1e3 * np.median(loops):.2f} ms, slowest {1e3 * loops.max():.2f}; correlation {together:.2f}; "
            f"stayed on its core in {sum(row[2] for row in rows)} of {len(rows)}, "
            f"{len({row[3] for row in rows})} cores; stolen {sum(row[4] for row in rows)} ticks",
            flush=True,
        )
        print("  " + " ".join(f"{1e3 * row[0]:.0f}/{1e3 * row[1]:.2f}@{row[3]}" for row in rows), flush=True)
    engine.close()
    return 0


def _loop() -> float:
    """Seconds that a fixed piece of work for this thread takes."""
    start, total = time.perf_counter(), 0
    for number in range(_LOOP):
        total += number
    return time.perf_counter() - start


def _core() -> int:
    """The core that this thread runs on."""
    return int(Path("/proc/thread-self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[36])


def _stolen() -> int:
    """Ticks that the hypervisor gave to others."""
    return int(Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[8])


if __name__ == "__main__":
    sys.exit(main())
