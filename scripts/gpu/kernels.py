"""Where a decoded token's time goes on the GPU: kernels by total time, for each precision of a model.

    python scripts/gpu/kernels.py --model tinyllama-1.1b-random --precision fp16

Profiles 32 tokens at batch 1 with the profiler of torch (CUPTI), after a warm-up; prints the kernels that make up most
of the time, and how much of the time between the first and the last kernel the GPU was idle.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

from enginegate.core.specs import SamplingParams
from enginegate.engines.registry import load_backend
from enginegate.machine.fingerprint import fingerprint
from enginegate.session.bench import ModelBench


def main() -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tinyllama-1.1b-random")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--kernels", type=int, default=8)
    arguments = parser.parse_args()
    bench = ModelBench.named(arguments.model, lambda line: print(f".. {line}", file=sys.stderr))
    spec = bench.config.spec("vllm", arguments.precision)
    engine = load_backend("vllm").load(bench.files.build(spec).path, spec, bench.config.runtime("vllm"))
    import torch

    prompt = [7 + 13 * index % 1000 for index in range(16)]
    params = SamplingParams(arguments.tokens)
    for _ in range(3):
        engine.generate([prompt], params)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        engine.generate([prompt], params)
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    total: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for event in kernels:
        total[event.name] += event.time_range.elapsed_us()
        count[event.name] += 1
    span = max(event.time_range.end for event in kernels) - min(event.time_range.start for event in kernels)
    busy = sum(total.values())
    card = fingerprint().identity["gpus"][0]["name"]
    print(
        f"{spec.id} on {card}: {len(kernels) / arguments.tokens:.0f} kernels a token, "
        f"{busy / arguments.tokens:.0f} us busy of {span / arguments.tokens:.0f} us a token"
    )
    for name in sorted(total, key=total.__getitem__, reverse=True)[: arguments.kernels]:
        print(
            f"  {total[name] / arguments.tokens:7.1f} us a token  {count[name] / arguments.tokens:6.1f} launches  "
            f"{total[name] / count[name]:6.2f} us each  {name[:100]}"
        )
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
