"""Which gate sees which damage: score a good engine and broken ones, and keep all figures.

    python scripts/sensitivity/measure.py --output FILE.json.gz [--model CONFIG] [--only "NAME;NAME"]

Every case is a pair: an accepted engine and one that is broken in one way (``damage.py``), both of the Transformers
backend, in bf16 unless it says otherwise. Both answer the configuration's texts, whole, and 480 questions. The record
holds each one's entries, item by item; ``page.py`` judges them and makes the table. On a card it takes minutes, on two
cores hours.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import damage
from enginegate.config.data_section import DATA_KEYS, DataSection
from enginegate.config.loading import Config
from enginegate.core.progress import Step
from enginegate.core.records import QualityEntry
from enginegate.engines.hf.backend import HuggingFaceBackend
from enginegate.quality.divergence import reference_distributions
from enginegate.quality.measure import FromReference, measure_quality, prose_of
from enginegate.quality.similarity import reference_answers
from enginegate.session.bench import ModelBench

#: Cloze questions of a case: a quarter of the bundled ones.
QUESTIONS = 480

METRICS = ("cloze", "divergence", "similarity", "summaries")


@dataclass(frozen=True)
class Case:
    """One engine of the record.

    Attributes:
        name: what the table calls it.
        accepted: name of the engine that it is compared with; "" for those that are only compared with.
        precision: of the loaded weights.
        weights: changes the model where it lies.
        wrap: changes the engine.
        bos: the configuration's texts begin with BOS.
        template: another chat template.
        batch: engines in other batches round otherwise.
    """

    name: str
    accepted: str = ""
    precision: str = "bf16"
    weights: Callable[[Any], None] = lambda _: None
    wrap: Callable[[Any, int], Any] = lambda engine, _: engine
    bos: bool = False
    template: bool = False
    batch: int = 8


def _int8_with_a_ruined_block(model: Any) -> None:
    damage.quantize(model, 8, None)
    damage.ruin_block(model, block=model.config.num_hidden_layers // 2)


CASES = (
    Case("fp32", precision="fp32"),
    Case("bf16"),
    Case("bf16 with BOS", bos=True),
    Case("int8 per channel", "bf16", weights=lambda model: damage.quantize(model, 8, None)),
    Case("int4 group 32", weights=lambda model: damage.quantize(model, 4, 32)),
    Case("int4 group 64", "int4 group 32", weights=lambda model: damage.quantize(model, 4, 64)),
    Case("int4 group 128", "int4 group 64", weights=lambda model: damage.quantize(model, 4, 128)),
    Case("int4 group 1,024", "int4 group 64", weights=lambda model: damage.quantize(model, 4, 1024)),
    Case("int8, one block at 2 bits", "int8 per channel", weights=_int8_with_a_ruined_block),
    Case("another chat template", "bf16", template=True),
    Case("context cut to 24 tokens", "bf16", wrap=lambda engine, _: damage.Truncated(engine)),
    Case("temperature 1 left on", "bf16", wrap=lambda engine, _: damage.Warm(engine)),
    Case("answers of one token, repeated", "bf16", wrap=lambda engine, _: damage.Stuck(engine)),
    Case("BOS dropped", "bf16 with BOS", bos=True, wrap=lambda engine, bos: damage.Begun(engine, bos, doubled=False)),
    Case("BOS doubled", "bf16 with BOS", bos=True, wrap=lambda engine, bos: damage.Begun(engine, bos, doubled=True)),
    *(Case(f"bf16 in batches of {batch}", "fp32", batch=batch) for batch in (1, 2, 3, 4, 5, 6, 7, 10, 12, 16)),
)


def main() -> None:
    """Measure the cases that were asked for, and those that they are compared with."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of cases, divided by ';'")
    options = parser.parse_args()
    asked = set(filter(None, options.only.split(";")))
    wanted = [case for case in CASES if not asked or case.name in asked]
    needed = {case.accepted for case in wanted} | {case.name for case in wanted}
    cases = [case for case in CASES if case.name in needed]
    bench = ModelBench.named(options.model, lambda line: print(line, flush=True))
    checkpoint, record = bench.files.checkpoint, {}
    references: dict[bool, FromReference] = {}
    for case in cases:
        begun = time.perf_counter()
        config = _config(bench.config, case.bos)
        if case.bos not in references:
            references[case.bos] = _reference(bench, config)
        record[case.name] = _measured(bench, config, case, references[case.bos])
        print(f"{case.name}: {time.perf_counter() - begun:.1f} s", flush=True)
        about = {"model": checkpoint.source, "digest": checkpoint.digest, **_machine()}
        write(options.output, about, {each.name: each.accepted for each in cases if each.accepted}, record)
    bench.close()


def _machine() -> dict[str, Any]:
    """What the record says of where it was made."""
    import torch
    import transformers

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": card, "torch": torch.__version__, "transformers": transformers.__version__}


def _config(config: Config, bos: bool) -> Config:
    """With all of the bundled texts and a quarter of the questions, where the configuration takes a smaller part."""
    quality = config.file.quality
    named = {key: getattr(quality, key) for key in DATA_KEYS}
    whole = {
        key: data.model_copy(update={"limit": None}) for key, data in named.items() if isinstance(data, DataSection)
    }
    quality = quality.model_copy(update={"add_bos": bos, "question_limit": QUESTIONS, **whole})
    return replace(config, file=config.file.model_copy(update={"quality": quality}))


def _load(bench: ModelBench, config: Config, precision: str, batch: int) -> Any:
    spec = replace(config.reference_spec("hf", precision), max_batch_size=batch)
    return HuggingFaceBackend().load(bench.files.checkpoint.path, spec, config.runtime("hf"))


def _reference(bench: ModelBench, config: Config) -> FromReference:
    """fp32 answers and distributions."""
    bench.files.progress(Step("the fp32 reference"))
    engine, tokenizer, quality = _load(bench, config, "fp32", 8), bench.files.tokenizer, config.file.quality
    answers = reference_answers(engine, tokenizer, bench.files.prompts(), quality.similarity_tokens)
    cells = quality.divergence_cells
    expected = reference_distributions(engine, tokenizer, prose_of(tokenizer, config), cells)
    engine.close()
    return FromReference(engine.spec.id, answers, expected)


def _measured(bench: ModelBench, config: Config, case: Case, reference: FromReference) -> dict[str, Any]:
    engine = _load(bench, config, case.precision, case.batch)
    case.weights(engine._model)
    tokenizer: Any = bench.files.tokenizer
    wrapped = case.wrap(engine, tokenizer.bos_id)
    if case.template:
        tokenizer = damage.swapped_template(tokenizer)
    entries: dict[str, QualityEntry] = {}
    for metric in METRICS:
        entries |= measure_quality(metric, wrapped, tokenizer, config, reference)
    engine.close()
    return plain(entries.values())


def plain(entries: Iterable[QualityEntry]) -> dict[str, Any]:
    """Entries by metric as a record of these scripts has them: what ``page.py`` reads, and no more."""
    unread = {"texts", "ceilings", "data"}
    return {entry.metric: entry.model_dump(mode="json", exclude=unread) for entry in entries}


def write(output: Path, about: Mapping[str, Any], pairs: Mapping[str, str], engines: Mapping[str, Any]) -> None:
    """Write a record: what was measured where, which engine is compared with which, and the entries of each."""
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "pairs": dict(pairs), "engines": engines}, separators=(",", ":"))
    output.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
