"""An engine of another precision than the one asked for must be refused: an fp16 engine is loaded as int8_wo."""

from __future__ import annotations

import sys

from enginegate.core.errors import EngineError
from enginegate.engines.effective import check_effective
from enginegate.engines.process.child_engine import load_engine
from enginegate.engines.registry import load_backend
from enginegate.session.bench import ModelBench


def main() -> int:
    """Load, ask, and see that the answer is refused."""
    bench = ModelBench.named("smollm2-135m", print)
    config = bench.config
    path = bench.files.build(config.spec("vllm", "fp16")).path
    spec, runtime = config.spec("vllm", "int8_wo"), config.runtime("vllm")
    engine = load_engine(load_backend("vllm"), path, spec, runtime)
    try:
        check_effective(spec, runtime, engine.effective())
    except EngineError as refused:
        print(f"refused, as it should be: {refused}")
        return 0
    finally:
        engine.close()
        bench.close()
    print("a wrong-precision engine was accepted")
    return 1


if __name__ == "__main__":
    sys.exit(main())
