"""Predicted against measured memory, over models of random weights: the error table of docs/optimization_techniques.md.

    python scripts/memory/error_table.py --out docs/results/memory/cpu.json          # OpenVINO, under 5 minutes
    python scripts/memory/error_table.py --engine vllm --out docs/results/memory/gpu.json   # on one NVIDIA GPU
    python scripts/memory/error_table.py --show docs/results/memory/cpu.json         # the table of a file, as Markdown

Each engine is made, loaded in a fresh process and asked for one batch. Its KV cache must be what the law says, to the
block. ``--fit`` tells the runtime's own part that fits these engines best, which is where the constants in
``engines/openvino/memory_law.py`` come from; the total of each engine is then predicted by a fit without it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec, Workload
from enginegate.engines.base import Backend
from enginegate.engines.registry import load_backend, version
from enginegate.machine.fingerprint import fingerprint
from enginegate.measure.memory import measure_memory
from enginegate.measure.memory_model import predicted_memory, read_memory_model
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.randomized import write_random_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from geometries import CPU, GPU, Case

MB = 1e6


@dataclass(frozen=True)
class Line:
    """One engine: what was predicted, and what each view of its memory says, in bytes, and on which machine."""

    machine: str
    name: str
    attention: str
    engine: str
    kv_format: str
    batch_size: int
    tokens: int
    layers: int
    predicted: dict[str, int | None]
    reported_weights: int | None
    reported_kv: int | None
    pool_kv: int | None
    allocator: int | None
    driver: int

    @property
    def kv_exact(self) -> bool:
        """Whether the engine and its pool have exactly the predicted KV cache."""
        return self.predicted["kv"] == self.reported_kv == self.pool_kv

    @property
    def error(self) -> float | None:
        """Predicted over measured total, less one."""
        total = self.predicted["total"]
        return None if total is None else total / self.driver - 1


def main() -> int:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("openvino", "vllm"), default="openvino", help="whose memory")
    parser.add_argument("--only", default="", help="names of cases, comma separated")
    parser.add_argument("--out", type=Path, help="write the measurements to this file")
    parser.add_argument("--show", type=Path, help="print the table of such a file, and measure nothing")
    parser.add_argument("--fit", action="store_true", help="print the constants that fit best")
    arguments = parser.parse_args()
    if arguments.show:
        found = json.loads(arguments.show.read_text(encoding="utf-8"))
        lines = [Line(**line) for line in found["lines"]]
        print("\n".join(table(lines)))
        return 0
    wanted = {name.strip() for name in arguments.only.split(",") if name.strip()}
    cases = [case for case in (GPU if arguments.engine == "vllm" else CPU) if not wanted or case.name in wanted]
    backend = load_backend(arguments.engine)
    machine = f"{fingerprint().key} with {version(backend)}"
    lines: list[Line] = kept(arguments.out, {case.name for case in cases})
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="enginegate-memory-") as scratch:
        for case in cases:
            started = time.monotonic()
            try:
                lines.append(measure(case, backend, Path(scratch), machine))
            except Exception as error:  # one engine less; the end says so
                failed.append(case.name)
                print(f"{case.name}: {error}", file=sys.stderr, flush=True)
                continue
            print(row(lines[-1]), f"({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
            if arguments.out:
                save(arguments.out, lines)
    print("\n".join(table(lines)))
    if arguments.fit:
        fixed, layer = fit(lines)
        print(f"\nthe runtime's own: {fixed:,.0f} bytes, and {layer:,.0f} for each layer")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 0 if not failed and all(line.kv_exact for line in lines) else 1


def kept(path: Path | None, again: set[str]) -> list[Line]:
    """The file's lines, less those that are measured again."""
    if path is None or not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [line for each in found["lines"] if (line := Line(**each)).name not in again]


def save(path: Path, lines: Sequence[Line]) -> None:
    """Write the measurements, after each of them: what was measured stays where the time ends early."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"schema": 2, "lines": [asdict(line) for line in lines]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(case: Case, backend: Backend, scratch: Path, machine: str) -> Line:
    """Make the engine, load it in a process of its own, and compare."""
    folder, built = scratch / "checkpoint", scratch / "engine"
    for each in (folder, built):
        _empty(each)
    write_random_checkpoint(case.shape, 0, folder, lambda _: None)
    spec = EngineSpec(
        case.name,
        backend.name,
        case.precision,
        QuantizationSpec(group_size=64),
        max_batch_size=case.batch_size,
        max_input_len=case.prompt,
        max_output_len=case.output,
    )
    runtime = RuntimeSpec(kv_precision=case.kv_precision)
    if (
        backend.name == "openvino"
    ):  # in this process: importing the exporter for each engine takes longer than exporting
        from enginegate.engines.openvino.build import export

        export(spec, folder, built)
    else:
        backend.build(spec, Checkpoint(folder, "0" * 64, "random", True), built, lambda _: None)
    workload = Workload(case.batch_size, case.prompt, case.output)
    prompts = [[3 + (7 * row + token) % 250 for token in range(case.prompt)] for row in range(case.batch_size)]
    size = sum(file.stat().st_size for file in built.iterdir())
    entry = measure_memory(built, size, spec, runtime, prompts, workload)
    model = read_memory_model(folder)
    parts = predicted_memory(backend, spec, runtime, workload, model)
    return Line(
        machine=machine,
        name=case.name,
        attention=" + ".join(kind.name for kind in model.geometry.kinds),
        engine=spec.label,
        kv_format=case.kv_precision,
        batch_size=case.batch_size,
        tokens=case.prompt + case.output,
        layers=model.geometry.layers,
        predicted=parts.model_dump(),
        reported_weights=entry.weights,
        reported_kv=entry.kv_budget,
        pool_kv=entry.kv_used,
        allocator=entry.allocator,
        driver=entry.peak,
    )


def fit(lines: Sequence[Line]) -> tuple[float, float]:
    """The runtime's own part, fixed and for each layer, that leaves the least relative error (least squares).

    A law that says the same for all numbers of layers is fitted as such: 0 for each layer.
    """
    rest = [line.driver - line.predicted["total"] + line.predicted["own"] for line in lines]  # type: ignore[operator]
    weights = np.array([1 / line.driver for line in lines])
    by_layer = len({line.predicted["own"] for line in lines}) > 1
    design = np.array([[1.0, line.layers] if by_layer else [1.0] for line in lines])
    found, *_ = np.linalg.lstsq(design * weights[:, None], np.array(rest) * weights, rcond=None)
    return float(found[0]), float(found[1]) if by_layer else 0.0


def left_out(lines: Sequence[Line]) -> Iterator[float]:
    """Error of each total where the runtime's own part is fitted to all others."""
    for index, line in enumerate(lines):
        fixed, layer = fit([*lines[:index], *lines[index + 1 :]])
        own = fixed + layer * line.layers
        yield (line.predicted["total"] - line.predicted["own"] + own) / line.driver - 1  # type: ignore[operator]


def row(line: Line) -> str:
    """One row of the table."""
    weights = line.predicted["weights"]
    found = [
        line.name,
        line.attention,
        f"{line.engine}, {line.kv_format} cache",
        f"{line.batch_size} x {line.tokens:,}",
        "n/a" if not weights or not line.reported_weights else f"{weights / line.reported_weights - 1:+.1%}",
        f"{line.predicted['kv']:,}",
        "exact" if line.kv_exact else f"{line.reported_kv:,}, {line.pool_kv:,}",
        "n/a" if line.predicted["total"] is None else f"{line.predicted['total'] / MB:.0f}",
        f"{line.driver / MB:.0f}",
        "n/a" if line.error is None else f"{line.error:+.1%}",
    ]
    return f"| {' | '.join(found)} |"


def table(lines: Sequence[Line]) -> Iterator[str]:
    """The page's part."""
    machines = list(dict.fromkeys(line.machine for line in lines))
    for number, machine in enumerate(machines):
        names = ", ".join(line.name for line in lines if line.machine == machine)
        yield f"{names if number else 'Measured'} on {machine}{'.' if number == len(machines) - 1 else ';'}"
    yield ""
    heads = (
        "case|attention|engine|batch x tokens|weights|KV law (bytes)|engine and pool|total law (MB)|driver (MB)|error"
    )
    yield f"| {' | '.join(heads.split('|'))} |"
    yield "|" + "---|" * len(heads.split("|"))
    yield from map(row, lines)
    errors = [line.error for line in lines if line.error is not None]
    if len(errors) == len(lines) > 2:
        outside = list(left_out(lines))
        exact = sum(line.kv_exact for line in lines)
        yield ""
        mean, worst = np.mean(np.abs(errors)), max(errors, key=abs)
        apart, furthest = np.mean(np.abs(outside)), max(outside, key=abs)
        yield (
            f"{exact} of {len(lines)} KV caches are exact to the byte. The total is off by {mean:.1%} on average and "
            f"{worst:+.1%} at most; with a runtime's own part that was fitted without the engine in question by "
            f"{apart:.1%} and {furthest:+.1%}."
        )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


if __name__ == "__main__":
    sys.exit(main())
