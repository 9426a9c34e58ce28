"""What the harness adds to an engine's own loop: the same work, bare and through the arena's round, in turns.

    python scripts/measure_overhead.py [--engine openvino] [--precision int8_wo] [--batch-sizes 1,8] [--pairs 30]

"Bare" is what a user of the engine would write, on the very object that the engine holds: OpenVINO GenAI's
``ContinuousBatchingPipeline.generate``, vLLM's ``LLM.generate``. "Harness" is the seconds that an arena round reports,
in which every token's time is taken. On a noisy machine the ratio of the two tells little, so a third figure needs no
pair: the share of an answer that is spent outside the engine's own steps, in this suite's code and in handing prompts
over and tokens back. Where the bare loop makes the same steps from Python, as vLLM's does, its own share is taken off.
With --child, also with the engine in a child process, over the bare loop in this one.

Prints each as an excess: median, and a 95 % interval of the median by order statistics; exit code 1 where a whole
interval lies above the limit.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from enginegate.core.specs import SamplingParams
from enginegate.engines.process.child_engine import ChildEngine
from enginegate.engines.registry import load_backend
from enginegate.engines.timing import quiet_process, timed_answer
from enginegate.gates.verdict import TAIL
from enginegate.machine.fingerprint import fingerprint
from enginegate.machine.gpu import DeviceMonitor
from enginegate.measure.arena import Arena, ArenaPolicy
from enginegate.measure.prompts import PromptPool
from enginegate.session.bench import ModelBench
from scipy.stats import binom

Prompts = list[list[int]]
# Seconds that an engine takes to answer prompts with so many tokens each.
Loop = Callable[[Any, Prompts, int], float]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--engine", choices=sorted(BARE), default="openvino")
    parser.add_argument("--precision", default="int8_wo")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--child", action="store_true", help="measure the engine in a child process as well")
    parser.add_argument("--limit", type=float, default=0.01, help="largest overhead allowed (default %(default)s)")
    arguments = parser.parse_args()

    bench = ModelBench.named(arguments.model, lambda line: print(f"  .. {line}", file=sys.stderr))
    spec, runtime = bench.config.spec(arguments.engine, arguments.precision), bench.config.runtime(arguments.engine)
    path = bench.files.build(spec).path
    child = ChildEngine(arguments.engine, path, spec, runtime) if arguments.child else None
    if child:
        child.ready()
    engine: Any = load_backend(arguments.engine).load(path, spec, runtime)
    steps = WATCHED[arguments.engine](engine)
    contestants = {"in this process": engine} | ({"in a child": child} if child else {})
    gpus = fingerprint().identity.get("gpus")
    monitor = DeviceMonitor() if gpus else None
    loops = (BARE[arguments.engine], _harness_seconds)
    over = False
    for batch in map(int, arguments.batch_sizes.split(",")):
        workload = bench.config.workload(batch)
        pool = PromptPool.from_texts([bench.files.tokenizer.encode(__doc__ or "")], workload.input_len)
        policy = ArenaPolicy(retries=0, max_blocks=1)
        arenas = {
            name: Arena({spec.id: each}, spec.id, workload, pool, policy, monitor=monitor)
            for name, each in contestants.items()
        }
        ratios = defaultdict[str, list[float]](list)
        for pair in range(-3, arguments.pairs):
            prompts = pool.batch(batch, workload.input_len, seed=1, round_index=pair)
            order = ["bare", *arenas][:: 1 if pair % 2 else -1]
            seconds = {
                name: _bare_seconds(arguments.engine, arenas["in this process"], engine, prompts)
                if name == "bare"
                else arenas[name].round(spec.id, prompts).seconds
                for name in order
            }
            shares = {
                loop: steps.share_outside(loop, engine, prompts, workload.output_len)
                for loop in loops[:: 1 if pair % 2 else -1]
            }
            if pair < 0:
                continue
            for name in arenas:
                ratios[f"{name} over bare"].append(math.log(seconds[name] / seconds["bare"]))
            bare_share, share = (shares[loop] for loop in loops)
            if math.isfinite(bare_share):
                ratios["outside the steps over bare"].append(share - bare_share)
            else:
                ratios["outside the steps"].append(share)
        for name, values in ratios.items():
            low, middle, high = _median(values)
            print(
                f"{spec.id} {workload.id}: {name} {middle:+.2%} [{low:+.2%}, {high:+.2%}] "
                f"over {len(values)} pairs" + (f" on {gpus[0]['name']}" if gpus else ""),
                flush=True,
            )
            over |= low > arguments.limit
    if monitor:
        monitor.close()
    for each in contestants.values():
        each.close()
    bench.close()
    return int(over)


def _median(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower bound, median and upper bound: the order statistics that hold the median with 95 % confidence."""
    ordered = np.sort(values)
    rank = int(binom.ppf(TAIL, len(ordered), 0.5))
    return ordered[max(0, rank - 1)], float(np.median(ordered)), ordered[min(len(ordered) - 1, len(ordered) - rank)]


def _bare_seconds(name: str, arena: Arena, engine: Any, prompts: Prompts) -> float:
    """As warm as the arena's own round, on the same core."""
    with arena._ready(engine, prompts):
        return BARE[name](engine, prompts, arena.workload.output_len)


def _harness_seconds(engine: Any, prompts: Prompts, output_len: int) -> float:
    """As a round of the arena takes them."""
    return timed_answer(engine, prompts, SamplingParams(output_len, ignore_eos=True))[1]


def _openvino_seconds(engine: Any, prompts: Prompts, output_len: int) -> float:
    """GenAI's own loop on the engine's pipeline."""
    import openvino
    import openvino_genai

    settings = openvino_genai.GenerationConfig()
    settings.max_new_tokens = output_len
    settings.do_sample = False
    settings.ignore_eos = True
    tensors = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
    with quiet_process():
        start = time.perf_counter()
        results = engine._pipeline.generate(tensors, [settings] * len(tensors))
        seconds = time.perf_counter() - start
    _check_produced([len(result.m_generation_ids[0]) for result in results], prompts, output_len)
    return seconds


def _vllm_seconds(engine: Any, prompts: Prompts, output_len: int) -> float:
    """vLLM's own loop on the engine's ``LLM``."""
    import vllm

    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True, detokenize=False)
    with quiet_process():
        start = time.perf_counter()
        results = engine._llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
    _check_produced([len(result.outputs[0].token_ids) for result in results], prompts, output_len)
    return seconds


class _Watched:
    """An object whose ``step`` is timed."""

    def __init__(self, stepped: Any) -> None:
        self._stepped = stepped
        self._inside = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stepped, name)

    def step(self, *arguments: Any) -> Any:
        """The object's own step."""
        start = time.perf_counter()
        result = self._stepped.step(*arguments)
        self._inside += time.perf_counter() - start
        return result

    def share_outside(self, loop: Loop, engine: Any, prompts: Prompts, output_len: int) -> float:
        """Log of an answer's time over the time inside its steps; infinite for a loop that makes none from Python."""
        self._inside = 0.0
        seconds = loop(engine, prompts, output_len)
        return math.log(seconds / self._inside) if self._inside else math.inf


def _watch_openvino(engine: Any) -> _Watched:
    engine._pipeline = _Watched(engine._pipeline)
    return engine._pipeline  # type: ignore[no-any-return]


def _watch_vllm(engine: Any) -> _Watched:
    engine._llm.llm_engine = _Watched(engine._llm.llm_engine)
    return engine._llm.llm_engine  # type: ignore[no-any-return]


def _check_produced(produced: list[int], prompts: Prompts, output_len: int) -> None:
    if produced != [output_len] * len(prompts):
        raise SystemExit(f"the bare loop produced {produced} tokens, asked were {output_len} each")


WATCHED: dict[str, Callable[[Any], _Watched]] = {"openvino": _watch_openvino, "vllm": _watch_vllm}
BARE: dict[str, Loop] = {"openvino": _openvino_seconds, "vllm": _vllm_seconds}


if __name__ == "__main__":
    sys.exit(main())
