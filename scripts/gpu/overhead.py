"""What the harness adds to vLLM's own loop: ``LLM.generate`` bare and an arena round, in turns on one engine.

    python scripts/gpu/overhead.py [--model smollm2-135m] [--precision fp16] [--batch-size 1] [--pairs 40]

Both arrangements of the suite are measured: the engine in this process, and behind the pipe of a child process (there
"bare" is the token times' own end, as the child measures it). Prints medians with 95 % intervals by order statistics.
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
from harness.engines.registry import load_backend
from harness.measure.arena import Arena, ArenaPolicy
from harness.measure.fingerprint import fingerprint
from harness.measure.gpu import DeviceMonitor
from harness.measure.host import quiet_process
from harness.measure.prompts import PromptPool
from harness.measure.turns import ChildEngine
from harness.specs import SamplingParams


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--limit", type=float, default=0.01, help="largest overhead allowed (default %(default)s)")
    arguments = parser.parse_args()
    config = load_config(find_config(arguments.model))
    bench = ModelBench(config, fingerprint(), cache_folder(), lambda line: print(f".. {line}", file=sys.stderr))
    spec, runtime = config.spec("vllm", arguments.precision), config.runtime("vllm")
    path = bench.build(spec).path
    child = ChildEngine("vllm", path, spec, runtime)
    child.ready()
    engine = load_backend("vllm").load(path, spec, runtime)
    llm = engine._llm  # type: ignore[attr-defined]
    import vllm

    over = False
    for batch in map(int, arguments.batch_sizes.split(",")):
        workload = config.workload(batch)
        pool = PromptPool.from_texts([bench.tokenizer.encode(__doc__ or "")], workload.input_len)
        policy = ArenaPolicy(retries=0, max_blocks=1)
        monitor = DeviceMonitor()
        arenas = {
            name: Arena({spec.id: each}, spec.id, workload, pool, policy, monitor=monitor)
            for name, each in (("in this process", engine), ("in a child", child))
        }
        sampling = vllm.SamplingParams(
            temperature=0.0, max_tokens=workload.output_len, ignore_eos=True, detokenize=False
        )
        ratios: dict[str, list[float]] = {name: [] for name in (*arenas, "pipe")}
        for pair in range(-3, arguments.pairs):
            prompts = pool.batch(batch, workload.input_len, seed=1, round_index=pair)

            def bare(prompts: list[list[int]] = prompts, sampling: object = sampling) -> float:
                with quiet_process():
                    start = time.perf_counter()
                    llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
                    return time.perf_counter() - start

            def harness(name: str, prompts: list[list[int]] = prompts) -> float:
                return arenas[name].round(spec.id, prompts).seconds  # noqa: B023 - called within this turn

            order = ["bare", *arenas][:: 1 if pair % 2 else -1]
            seconds = {name: bare() if name == "bare" else harness(name) for name in order}
            start = time.perf_counter()
            answer = child.generate(prompts, SamplingParams(workload.output_len))
            outside = time.perf_counter() - start
            if pair >= 0:
                for name in arenas:
                    ratios[name].append(math.log(seconds[name] / seconds["bare"]))
                ratios["pipe"].append(math.log(outside / max(each.token_times[-1] for each in answer)))
        for name, values in ratios.items():
            ordered = np.sort(values)
            rank = int(binom.ppf(0.025, len(ordered), 0.5))
            low, high = ordered[max(0, rank - 1)], ordered[min(len(ordered) - 1, len(ordered) - rank)]
            print(
                f"{spec.id} {workload.id}: {name} over bare {np.median(ordered):+.2%} [{low:+.2%}, {high:+.2%}] "
                f"over {len(ordered)} pairs on {bench.fingerprint.identity['gpus'][0]['name']}",
                flush=True,
            )
            over |= low > arguments.limit
        monitor.close()
    child.close()
    engine.close()
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
