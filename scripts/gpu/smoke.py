"""A first look at the backend on a GPU: one precision after the other, each in a child, every method of the engine.

    python scripts/gpu/smoke.py [--model smollm2-135m] [--precisions fp16,int4_awq] [--backends vllm,hf-static]

Prints one JSON line for each engine, and ends with code 1 where one of them failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from enginegate.core.errors import EngineGateError
from enginegate.core.specs import SamplingParams
from enginegate.engines.effective import check_effective
from enginegate.engines.process.child_engine import load_engine
from enginegate.engines.registry import load_backend
from enginegate.machine.fingerprint import fingerprint
from enginegate.session.bench import ModelBench

PROMPT = "The capital of France is"


def main() -> int:
    """Load each engine and ask it everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--precisions", default="fp16,int4_awq")
    parser.add_argument("--backends", default="vllm")
    arguments = parser.parse_args()
    bench = ModelBench.named(arguments.model, lambda line: print(f".. {line}", file=sys.stderr))
    print(json.dumps(fingerprint().model_dump()))
    failed = False
    for backend in arguments.backends.split(","):
        for precision in arguments.precisions.split(","):
            try:
                print(json.dumps(_look(bench, backend, precision)), flush=True)
            except EngineGateError as error:
                failed = True
                print(json.dumps({"engine": f"{backend} {precision}", "error": str(error)}), flush=True)
    bench.close()
    return int(failed)


def _look(bench: ModelBench, backend_name: str, precision: str) -> dict[str, Any]:
    config = bench.config
    spec, runtime = config.spec(backend_name, precision), config.runtime(backend_name)
    entry = bench.files.build(spec)
    started = time.perf_counter()
    engine = load_engine(load_backend(backend_name), entry.path, spec, runtime)
    try:
        effective = engine.effective()
        loaded = time.perf_counter() - started
        ids = bench.files.tokenizer.encode(PROMPT)
        length = config.file.workload.output_len
        answers = engine.generate([ids, ids[:-1]], SamplingParams(length))
        for _ in range(3):
            timed = engine.generate([ids], SamplingParams(length))[0]
        streamed = tuple(event.token_id for event in engine.stream(ids, SamplingParams(length)))
        half = engine.stream(ids, SamplingParams(length))
        next(half)
        half.close()  # type: ignore[attr-defined]
        text = bench.files.tokenizer.encode(PROMPT + " Paris, and the capital of Germany is Berlin.")
        whole, stepped = engine.score([text, text[:-2]]), engine.score([text, text[:-2]], prefill=4)
        check_effective(spec, runtime, effective)
        return {
            "engine": spec.id,
            "load_seconds": round(loaded, 1),
            "build_seconds": round(entry.manifest.build_seconds, 1),
            "size": entry.manifest.size_bytes,
            "text": bench.files.tokenizer.decode(answers[0].token_ids[:16]),
            "batch_equals_single": answers[0].token_ids == timed.token_ids,
            "stream_equals": streamed == timed.token_ids,
            "distinct_times": len(set(timed.token_times)),
            "tokens_per_second": round(length / timed.token_times[-1], 1),
            "ttft": timed.token_times[0],
            "whole_minus_stepped": max(abs(a - b) for a, b in zip(whole[0], stepped[0], strict=True)),
            "mean_logprob": sum(whole[0]) / len(whole[0]),
            "memory": asdict(engine.memory()),
            "effective": asdict(effective),
        }
    finally:
        engine.close()


if __name__ == "__main__":
    sys.exit(main())
