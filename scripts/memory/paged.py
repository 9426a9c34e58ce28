"""Paged against contiguous by measurement: the blocks that a running pipeline holds for sequences of mixed lengths.

    python scripts/memory/paged.py --out docs/results/memory/paged.json      # OpenVINO's CPU pipeline, about a minute
    python scripts/memory/paged.py --show docs/results/memory/paged.json     # the table of a file, as Markdown

A pool that a contiguous cache would need for some sequences of the longest length is given to the paged engine. The
script then hands in sequences of mixed lengths, more than those, until the blocks are used up, reads what share of the
pool the pipeline says it holds at most, and compares that with the formula.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.openvino import kv_cache
from enginegate.engines.openvino.build import export
from enginegate.engines.registry import load_backend, version
from enginegate.machine.fingerprint import fingerprint
from enginegate.measure.paging import draw_lengths, paging
from enginegate.models.randomized import GEOMETRIES, write_random_checkpoint

BLOCK = kv_cache.TOKENS_PER_BLOCK
#: Distributions, their mean, and how many sequences of the longest length the pool would hold.
DRAWN = (("constant", 1024), ("uniform", 512), ("lognormal", 256), ("lognormal", 128))
LONGEST, RESERVED = 1024, 8


def main() -> int:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the measurements to this file")
    parser.add_argument("--show", type=Path, help="print the table of such a file, and measure nothing")
    arguments = parser.parse_args()
    if arguments.show:
        found = json.loads(arguments.show.read_text(encoding="utf-8"))
    else:
        found = measured()
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(found)))
    return 0 if all(line["held_blocks"] == line["formula_blocks"] for line in found["lines"]) else 1


def measured() -> dict[str, Any]:
    """Load one engine for each distribution, and fill its pool."""
    backend = load_backend("openvino")
    pool = RESERVED * (LONGEST // BLOCK)
    lines = []
    with tempfile.TemporaryDirectory(prefix="enginegate-memory-") as scratch:
        checkpoint, built = Path(scratch, "checkpoint"), Path(scratch, "engine")
        checkpoint.mkdir()
        built.mkdir()
        write_random_checkpoint(GEOMETRIES["tiny"], 0, checkpoint, lambda _: None)
        spec = EngineSpec("tiny", "openvino", "fp32", max_batch_size=256, max_input_len=LONGEST - 1, max_output_len=1)
        export(spec, checkpoint, built)
        for kind, mean in DRAWN:
            lengths = _that_fit(draw_lengths(kind, mean, LONGEST, 256, seed=0), pool)
            probe = backend.load(built, spec, RuntimeSpec())
            block = probe.memory().kv_budget // probe.effective().kv_blocks
            probe.close()
            engine = backend.load(built, spec, RuntimeSpec(kv_cache_bytes=pool * block))
            prompts = [[3 + token % 250 for token in range(max(1, length - 1))] for length in lengths]
            engine.generate(prompts, SamplingParams(1))
            share = engine._pipeline.get_metrics().max_cache_usage / 100
            engine.close()
            lines.append(
                {
                    "kind": kind,
                    "mean": sum(lengths) / len(lengths),
                    "sequences": len(lengths),
                    "contiguous": RESERVED,
                    "pool_blocks": pool,
                    "held_blocks": round(share * pool),
                    "formula_blocks": paging([len(prompt) for prompt in prompts], BLOCK).blocks,
                    "waste": paging(lengths, BLOCK).waste,
                }
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return {"schema": 1, "machine": f"{fingerprint().key} with {version(backend)}", "longest": LONGEST, "lines": lines}


def _that_fit(lengths: list[int], pool: int) -> list[int]:
    """The first of them whose blocks the pool holds together."""
    count = 1
    while count < len(lengths) and paging(lengths[: count + 1], BLOCK).blocks <= pool:
        count += 1
    return lengths[:count]


def table(found: dict[str, Any]) -> Iterator[str]:
    """The page's part."""
    yield f"Measured on {found['machine']}."
    yield f"Blocks of {BLOCK} tokens, and a pool of {RESERVED} x {found['longest']:,} tokens."
    yield ""
    yield "| lengths | mean | contiguous holds | paged holds | blocks held | by the formula | empty |"
    yield "|---|---|---|---|---|---|---|"
    for line in found["lines"]:
        yield (
            f"| {line['kind']} | {line['mean']:.0f} | {line['contiguous']} | {line['sequences']} | "
            f"{line['held_blocks']} of {line['pool_blocks']} | {line['formula_blocks']} | {line['waste']:.1%} |"
        )


if __name__ == "__main__":
    sys.exit(main())
