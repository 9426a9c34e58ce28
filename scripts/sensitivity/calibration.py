"""An engine that was calibrated on text that is none, beside the one that it should be: OpenVINO int4_awq, on a CPU.

    python scripts/sensitivity/calibration.py --output FILE.json.gz

The second is built from the same checkpoint with random characters for calibration. Both answer the items of the
configuration; the record is one of those that ``page.py`` reads.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from enginegate.config.loading import Config
from enginegate.config.schema import ConfigFile
from enginegate.core.cache import cache_folder
from enginegate.machine.fingerprint import fingerprint
from enginegate.session.bench import ModelBench
from measure import METRICS, plain, write

GOOD, BAD = "int4_awq", "int4_awq, calibrated on random characters"


def main() -> None:
    """Measure both, and the second unquantized engine that the gates look at."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    good = ModelBench.named(options.model, _said)
    noise = Path(tempfile.mkdtemp()) / "random.jsonl"
    noise.write_text("".join(_lines()), encoding="utf-8")
    bad = ModelBench.of(_calibrated(good.config, noise), fingerprint(), cache_folder(), _said)
    engines: dict[str, Any] = {}
    for name, bench in ((GOOD, good), (BAD, bad)):
        spec, runtime = bench.config.spec("openvino", "int4_awq"), bench.config.runtime("openvino")
        engines[name] = plain(bench.quality_of(spec, runtime, metric) for metric in (*METRICS, "perplexity"))
    engines["bf16"] = plain(good.unquantized_quality(metric) for metric in ("divergence", "similarity"))
    about = {"model": good.files.checkpoint.source, "digest": good.files.checkpoint.digest, "device": "CPU, OpenVINO"}
    about |= {name: version(name) for name in ("torch", "transformers", "openvino")}
    write(options.output, about, {BAD: GOOD}, engines)
    good.close()
    bad.close()


def _said(line: object) -> None:
    print(line, flush=True)


def _lines() -> list[str]:
    """32 texts of random printable characters, as JSON lines."""
    draw = random.Random(0)
    texts = ("".join(draw.choices(string.ascii_letters + string.digits + "     ", k=900)) for _ in range(32))
    return [json.dumps({"id": f"r{number}", "topic": "none", "text": text}) + "\n" for number, text in enumerate(texts)]


def _calibrated(config: Config, text: Path) -> Config:
    file = config.file.model_dump(by_alias=True)
    file["engines"]["openvino"]["quantization"]["calibration"] = str(text.absolute())
    return replace(config, file=ConfigFile.model_validate(file))


if __name__ == "__main__":
    main()
