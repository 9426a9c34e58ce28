"""What the harness adds to an engine's own loop: the same work, bare and through the arena's round, in turns.

    python scripts/measure_overhead.py [--model smollm2-135m] [--precision int8_wo] [--batch-size 1] [--pairs 30]

"Bare" is what a user of OpenVINO GenAI would write: ``ContinuousBatchingPipeline.generate`` on the very pipeline that
the engine holds, with the same prompts. "Harness" is the seconds that an arena round reports for ``Engine.generate``,
in which every token's time is taken. Prints the ratio of each pair's times: median, and a 95 % interval of the median
by order statistics; exit code 1 where the whole interval lies above the limit.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np
from scipy.stats import binom

from harness.bench import ModelBench
from harness.config import cache_folder, find_config, load_config
from harness.measure.arena import Arena, ArenaPolicy
from harness.measure.fingerprint import fingerprint
from harness.measure.host import quiet_process
from harness.measure.prompts import PromptPool


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--precision", default="int8_wo")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--limit", type=float, default=0.01, help="largest overhead allowed (default %(default)s)")
    arguments = parser.parse_args()

    config = load_config(find_config(arguments.model))
    bench = ModelBench(config, fingerprint(), cache_folder(), lambda line: print(f"  .. {line}", file=sys.stderr))
    spec, runtime = config.spec("openvino", arguments.precision), config.runtime("openvino")
    engine = bench.engine(spec, runtime, "candidate")
    workload = config.workload(arguments.batch_size)
    pool = PromptPool.from_texts([bench.tokenizer.encode(__doc__ or "")], workload.input_len)
    arena = Arena({spec.id: engine}, spec.id, workload, pool, ArenaPolicy(retries=0, max_blocks=1))

    ratios = []
    for pair in range(-3, arguments.pairs):
        prompts = pool.batch(workload.batch_size, workload.input_len, seed=1, round_index=pair)
        if pair % 2:
            bare = bare_seconds(engine, prompts, workload.output_len)
            harness = arena.round(spec.id, prompts).seconds
        else:
            harness = arena.round(spec.id, prompts).seconds
            bare = bare_seconds(engine, prompts, workload.output_len)
        if pair >= 0:
            ratios.append(math.log(harness / bare))
    bench.close()

    ordered = np.sort(ratios)
    rank = int(binom.ppf(0.025, len(ordered), 0.5))
    low, high = ordered[max(0, rank - 1)], ordered[min(len(ordered) - 1, len(ordered) - rank)]
    print(
        f"{spec.id} {workload.id}: harness over bare {np.median(ordered):+.2%} [{low:+.2%}, {high:+.2%}]"
        f" over {len(ordered)} pairs"
    )
    return 1 if low > arguments.limit else 0


def bare_seconds(engine: object, prompts: list[list[int]], output_len: int) -> float:
    """GenAI's own loop on the engine's pipeline."""
    import openvino
    import openvino_genai

    settings = openvino_genai.GenerationConfig()
    settings.max_new_tokens = output_len
    settings.do_sample = False
    settings.ignore_eos = True
    tensors = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
    pipeline = engine._pipeline  # type: ignore[attr-defined]
    with quiet_process():
        start = time.perf_counter()
        results = pipeline.generate(tensors, [settings] * len(tensors))
        seconds = time.perf_counter() - start
    produced = [len(result.m_generation_ids[0]) for result in results]
    if produced != [output_len] * len(prompts):
        raise SystemExit(f"the bare loop produced {produced} tokens, asked were {output_len} each")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
