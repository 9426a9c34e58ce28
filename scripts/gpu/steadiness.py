"""Whether taking the quietest core steadies the rounds of a GPU engine: in turns with a core drawn by lot.

    python scripts/gpu/steadiness.py [--engine vllm] [--precision fp16] [--batch-size 8] [--pairs 40]

Each pair is one round as the arena has it, on the core that was quietest in trials just before, and one on any core,
without trials, in changing order; first in a row, then with a second of sleep before each. Before and after each round
the same thread runs a loop of a fixed length, so that a core which is slow at the moment shows. Prints how much the
rounds of each kind scatter (standard deviation of the log of the seconds) and go with the loop, each as
milliseconds/loop@core; then the quietest core over any core, scatter, median and geometric mean, with 95 % intervals
from 10,000 resamplings of the pairs; last, the same over all pairs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import numpy.typing as npt
from enginegate.core.specs import SamplingParams
from enginegate.engines.registry import load_backend
from enginegate.engines.timing import timed_answer
from enginegate.machine.cores import allowed_cores, loop_seconds, take_quietest_core
from enginegate.measure.prompts import PromptPool
from enginegate.session.bench import ModelBench

Logs = npt.NDArray[np.float64]
#: Seconds, seconds of the loop and the core of each round, by how its core was chosen.
Rounds = dict[str, list[tuple[float, float, int]]]

_ADDITIONS = 40_000
_QUIETEST, _ANY = "quietest core", "any core"
#: What is compared, of the logs of some rounds' seconds over those of others, last axis rounds.
GAINS: dict[str, Callable[[Logs, Logs], Logs]] = {
    "scatter": lambda logs, others: logs.std(axis=-1, ddof=1) / others.std(axis=-1, ddof=1),
    "median": lambda logs, others: np.exp(np.median(logs, axis=-1) - np.median(others, axis=-1)),
    "geometric mean": lambda logs, others: np.exp(logs.mean(axis=-1) - others.mean(axis=-1)),
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.pairs < 10:
        parser.error("--pairs must be at least 10, or resampling them says nothing")
    cores = allowed_cores()
    if len(cores) < 2:
        parser.error("there are not two cores to choose from on this system: nothing to compare")
    bench = ModelBench.named(arguments.model, lambda line: print(f".. {line}", file=sys.stderr))
    spec = bench.config.spec(arguments.engine, arguments.precision)
    engine = load_backend(arguments.engine).load(
        bench.files.build(spec).path, spec, bench.config.runtime(arguments.engine)
    )
    workload = bench.config.workload(arguments.batch_size)
    pool = PromptPool.from_texts([bench.files.tokenizer.encode(__doc__ or "")], workload.input_len)
    params = SamplingParams(workload.output_len, ignore_eos=True)
    lots, phases = random.Random(0), list[Rounds]()
    with closing(engine), closing(bench):
        for pause in (0.0, 1.0):
            rounds: Rounds = {_ANY: [], _QUIETEST: []}
            for pair in range(-3, arguments.pairs):
                prompts = pool.batch(workload.batch_size, workload.input_len, seed=1, round_index=pair)
                for choice in (_QUIETEST, _ANY)[:: 1 if pair % 2 else -1]:
                    time.sleep(pause)
                    if choice == _QUIETEST:
                        take_quietest_core(cores)
                    else:
                        os.sched_setaffinity(0, {lots.choice(sorted(cores))})
                    (core,) = os.sched_getaffinity(0)
                    engine.generate(prompts, SamplingParams(4, ignore_eos=True))
                    before = loop_seconds(_ADDITIONS)
                    seconds = timed_answer(engine, prompts, params)[1]
                    loop = (before + loop_seconds(_ADDITIONS)) / 2
                    if pair >= 0:
                        rounds[choice].append((seconds, loop, core))
            phases.append(rounds)
            title = f"{spec.id} {workload.id}, {pause:g} s of sleep"
            _show_kinds(title, rounds)
            _show_gain(title, rounds)
        _show_gain("all pairs", {choice: [row for rounds in phases for row in rounds[choice]] for choice in phases[0]})
    return 0


def _show_kinds(title: str, rounds: Rounds) -> None:
    for choice, rows in rounds.items():
        logs, loops = (np.log([row[column] for row in rows]) for column in (0, 1))
        print(
            f"{title}, {choice}: median {1e3 * np.exp(np.median(logs)):.1f} ms, scatter {logs.std(ddof=1):.1%}, "
            f"slowest {np.exp(np.ptp(logs)):.2f}x the fastest; correlation with the loop "
            f"{np.corrcoef(logs, loops)[0, 1]:.2f}"
        )
        print(f"  {choice}: " + " ".join(f"{1e3 * row[0]:.0f}/{1e3 * row[1]:.2f}@{row[2]}" for row in rows))


def _show_gain(title: str, rounds: Rounds) -> None:
    quiet, other = (np.log([row[0] for row in rounds[choice]]) for choice in (_QUIETEST, _ANY))
    draws = np.random.default_rng(0).integers(len(quiet), size=(10_000, len(quiet)))
    for name, ratio in GAINS.items():
        low, high = np.percentile(ratio(quiet[draws], other[draws]), [2.5, 97.5])
        print(
            f"{title}, quietest over any core: {name} {ratio(quiet, other):.2f}x [{low:.2f}, {high:.2f}] "
            f"over {len(quiet)} pairs",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
