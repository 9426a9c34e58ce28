"""Whatever a configuration's file holds, it is read as a Config or refused by an error of the suite's own, in time.

The real configurations are changed as trees (keys and values dropped, renamed, given twice, given another type) and as
text. ENGINEGATE_FUZZ_SECONDS: seconds of this process for each of the two.
"""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from enginegate.config.loading import Config, load_config
from enginegate.config.schema import split_precision
from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.engines import registry
from enginegate.gates.family import split_alpha
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.heavy

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
TEXTS = [file.read_text(encoding="utf-8") for file in CONFIGS]
SECONDS = float(os.environ.get("ENGINEGATE_FUZZ_SECONDS", "50"))
#: Seconds of this process that one file may take; a sound one takes a tenth of one.
LONGEST = 20
EXAMPLES = 200

#: Values that people and tools have put where another was meant.
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 10**6, 2**31, 2**63, 10**30, 0.5, 1e300, -0.0, float("nan"), float("inf"), "", "1",
    "1e3", "010", "1:30", "yes", "2024-01-01", "20GB", "9" * 400 + "GB", "auto", "base", "fp16", "int8_wo@tp2",
    "../fixtures/data/prompts.jsonl", "/", "~", "path:", "random:tiny?seed=x", "random:nothing", "\x00", "\ud800",
    "x" * 5000,
    "١", [], [[]], {}, {"a": {}}, [1, 1], ["fp16", "fp16"], {"b1": True}, {"b01": 1.0}, {"<<": 1}, {1: 2}, {None: None},
]  # fmt: skip
SNIPPETS = [
    "<<: *half\n", "&a [*a]", "*nothing", "!!python/object:os.system x", "!!int ''", "!!float x", "? [a]\n: b\n",
    "---\n", "...\n", "\t", "\r\n", "\ufeff", "%YAML 9.9\n", '"\\ud800"', '"\\UFFFFFFFF"', "{" * 60, "[" * 60,
    "- ", ": ", "~: 1\n", "'", '"', "#", "|\n", "schema: 1\n", "gates: {alpha: 0.01}\n", "1e999", "0x", "09", "=",
    "no: 1\n", "1: 1\n", "9" * 5000,
]  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a tree with each key or index in it."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from places(value)


@st.composite
def changed_trees(draw: Callable[..., Any]) -> str:
    tree = yaml.safe_load(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(tree))
        if not found:
            break
        holder, key = found[draw(st.integers(0, len(found) - 1))]
        what = draw(st.sampled_from(["drop", "retype", "rename", "double", "move"]))
        if what == "drop":
            del holder[key]
        elif what == "retype":
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif what == "move":
            other, place = found[draw(st.integers(0, len(found) - 1))]
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            name = draw(st.sampled_from([str(key)[:-1], f"{key}s", str(key).upper(), f"{key}@x", "", 1, None, True]))
            holder[name] = copy.deepcopy(holder[key]) if what == "double" else holder.pop(key)
    return str(yaml.dump(tree, Dumper=yaml.SafeDumper, allow_unicode=draw(st.booleans()), sort_keys=False))


@st.composite
def changed_texts(draw: Callable[..., Any]) -> bytes:
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 0, 1, 3, 20]))
        new = draw(st.one_of(st.sampled_from(SNIPPETS), st.just(""), st.text(max_size=4), st.just(text[:start][-40:])))
        text = text[:start] + new + text[start + length :]
    data = text.encode("utf-8", "surrogatepass")
    return draw(st.sampled_from([data, data, data, text.encode("utf-16", "surrogatepass"), data[: len(data) // 2]]))


def read(path: Path, data: bytes) -> None:
    """Read a configuration of these bytes; what comes is a Config or an error with a message that can be printed."""
    path.write_bytes(data)

    def too_long(*_: object) -> None:
        raise AssertionError(f"takes more than {LONGEST} s")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        use(load_config(path))
    except (ConfigError, CapabilityError) as error:
        said = str(error)
    else:
        said = "hint: none is needed"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert "hint:" in said
    assert said.encode("utf-8"), "a lone surrogate cannot be printed"


def use(config: Config) -> None:
    """Ask of a configuration what a session asks of it before it loads anything."""
    for backend, section in config.file.engines.items():
        for name in section.precisions:
            precision, variant = split_precision(name)
            config.floors(config.spec(backend, precision, variant))
            config.runtime(backend, variant)
    config.reference_spec(config.file.reference.backend, "fp16")
    gates = config.file.gates
    alpha, speed, quality = split_alpha(gates.alpha, 60), gates.speed, gates.quality
    SpeedPolicy(speed.margin, speed.tolerated, alpha, speed.beta, tuple(speed.looks))
    for margins in (quality.bleu, quality.rouge, quality.perplexity):
        QualityPolicy(alpha=alpha, beta=quality.beta, margin=margins.margin, tolerated=margins.tolerated)
    for size in config.file.workload.batch_sizes:
        assert config.workload(size).input_len <= config.file.limits.max_input_len
    config.timeouts()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file is written. What other distributions offer is not looked up for each file: that takes longest."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    return tmp_path / "fuzzed.yaml"


@pytest.mark.parametrize("files", [changed_trees(), changed_texts()], ids=["trees", "texts"])
def test_any_file_is_read_or_refused(files: st.SearchStrategy[str | bytes], path: Path) -> None:
    end = time.process_time() + SECONDS
    count = 0
    while time.process_time() < end:

        @seed(count)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(file=files)
        def check(file: str | bytes) -> None:
            read(path, file.encode("utf-8", "surrogatepass") if isinstance(file, str) else file)

        check()
        count += 1
    assert count
