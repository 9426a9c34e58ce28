"""The commands themselves: options nobody can read, readers that leave, full disks, figures that are gone."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from cases_compare import command, entry, text
from enginegate.core.errors import EngineError, edge
from enginegate.core.records import RunRecord
from enginegate.report import write_report
from enginegate.storage.reading import read_strictly
from enginegate.storage.runs import save_record
from enginegate.storage.summary import session_shift
from field_case import Got, attempt, case

from tests_harness.storage.factory import gated_record, run_record

NOBODY = "~no-such-user/runs"


@case("compare --runs in an unknown home", kind="option", expected="exit 2", says=("~no-such-user", "hint"))
def runs_of_nobody(folder: Path) -> Got:
    return command("compare", "--runs", NOBODY, "a", "b")


@case("report --out in an unknown home", kind="option", expected="exit 2", says=("~no-such-user",))
def out_of_nobody(folder: Path) -> Got:
    return command("report", "latest", "--out", NOBODY)


@case("accept --baselines in an unknown home", kind="option", expected="exit 2", says=("~no-such-user",))
def baselines_of_nobody(folder: Path) -> Got:
    return command("accept", "latest", "--baselines", NOBODY)


@case("init --folder in an unknown home", kind="option", expected="exit 2", says=("~no-such-user",))
def folder_of_nobody(folder: Path) -> Got:
    return command("init", "--model", "m", "--engine", "hf", "--folder", NOBODY)


@case("an option whose reader breaks", kind="option", expected="exit 4", says=("ZeroDivisionError", "report"))
def broken_option(folder: Path) -> Got:
    with mock.patch("enginegate.core.sections.read_size", side_effect=ZeroDivisionError("x")):
        return command("engines", "prune", "--keep", "1GB")


@case("report, and a reader that has left", kind="output", expected="exit 0")
def report_unread(folder: Path) -> Got:
    run = str(save_record(run_record(), folder))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed, mock.patch("enginegate.report.write_report", return_value=[folder]):
        got = command("report", run, stdout=closed)
    return Got("complains", got.text) if got.text else got


@case("a broken pipe that is not stdout", kind="output", expected="exit 4", says=("BrokenPipeError", "no result"))
def other_pipe(folder: Path) -> Got:
    with mock.patch("enginegate.cli.report.run", side_effect=BrokenPipeError(errno.EPIPE, "Broken pipe")):
        return command("report", "latest")


@case("a command that meets a file too large", kind="output", expected="exit 2", says=("free some space",))
def too_large_to_go_on(folder: Path) -> Got:
    with mock.patch("enginegate.cli.report.run", side_effect=OSError(errno.EFBIG, os.strerror(errno.EFBIG))):
        return command("report", "latest")


@case("the folder of a run on a full disk", kind="boundary", expected="RecordError", says=("make room", "--runs DIR"))
def full_runs(folder: Path) -> Got:
    return refused_by_disk(folder, errno.ENOSPC, lambda: save_record(run_record(), folder))


@case("the same with a file too large for it", kind="boundary", expected="RecordError", says=("room", "--runs DIR"))
def too_large(folder: Path) -> Got:
    return refused_by_disk(folder, errno.EFBIG, lambda: save_record(run_record(), folder))


@case("the folder of a run without rights", kind="boundary", expected="RecordError", says=("rights", "--runs DIR"))
def foreign_runs(folder: Path) -> Got:
    return refused_by_disk(folder, errno.EACCES, lambda: save_record(run_record(), folder))


def refused_by_disk(folder: Path, number: int, write: Callable[[], object]) -> Got:
    """What is said where a disk refuses to take a file; the cache has nothing to do with it."""
    with mock.patch("enginegate.core.files.tempfile.mkstemp", side_effect=OSError(number, os.strerror(number))):
        got = attempt(write)
    return Got("names the cache", got.text) if "ENGINEGATE_CACHE" in got.text else got


@case("a report into a folder without rights", kind="boundary", expected="RecordError", says=("rights", "--out DIR"))
def foreign_report(folder: Path) -> Got:
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with mock.patch("enginegate.report.write_csv", side_effect=refused):
        return attempt(write_report, [run_record()], folder)


@case("no memory, and a hint of another kind", kind="boundary", expected="EngineError", says=("max_batch_size",))
def no_memory(folder: Path) -> Got:
    def load() -> None:
        with edge(EngineError, "x cannot be loaded", "rebuild the engine"):
            raise MemoryError

    return attempt(load)


def against(folder: Path, change: Callable[[RunRecord], RunRecord], *options: str) -> Got:
    """A run against the same run with a change, and another id."""
    old, new = save_record(run_record("old"), folder), save_record(change(run_record("new")), folder)
    return command("compare", str(old), str(new), *options)


def without_perplexity(record: RunRecord) -> RunRecord:
    return record.model_copy(update={"quality": [each for each in record.quality if each.metric != "perplexity"]})


def other_bleu(record: RunRecord) -> RunRecord:
    entries = [
        each.model_copy(update={"version": f"other;{each.version}"}) if each.metric == "similarity" else each
        for each in record.quality
    ]
    return record.model_copy(update={"quality": entries})


@case("NEW without perplexity, --strict", kind="a figure is gone", expected="exit 3", says=("missing", "perplexity"))
def perplexity_gone(folder: Path) -> Got:
    return against(folder, without_perplexity, "--strict", "--metric", "perplexity,cloze,engine_size")


@case("NEW without memory", kind="a figure is gone", expected="exit 0", says=("missing", "peak_memory"))
def memory_gone(folder: Path) -> Got:
    return against(folder, lambda record: record.model_copy(update={"memory": []}))


@case("NEW whose peak is 0, --strict", kind="a figure is gone", expected="exit 3", says=("missing", "peak_memory"))
def memory_zero(folder: Path) -> Got:
    def change(record: RunRecord) -> RunRecord:
        return record.model_copy(update={"memory": [each.model_copy(update={"peak": 0}) for each in record.memory]})

    return against(folder, change, "--strict", "--metric", "peak_memory,loaded_memory")


@case("NEW whose engines have no size", kind="a figure is gone", expected="exit 0", says=("missing", "engine_size"))
def size_zero(folder: Path) -> Got:
    def change(record: RunRecord) -> RunRecord:
        return record.model_copy(
            update={"engines": [each.model_copy(update={"size_bytes": 0}) for each in record.engines]}
        )

    return against(folder, change)


@case("BASE without perplexity", kind="a figure is new", expected="exit 0", says=("new ", "perplexity"))
def perplexity_new(folder: Path) -> Got:
    old, new = save_record(without_perplexity(run_record("old")), folder), save_record(run_record("new"), folder)
    return command("compare", str(old), str(new), "--metric", "perplexity,cloze")


@case("NEW's BLEU of another method", kind="a figure is gone", expected="exit 3", says=("INCONCLUSIVE", "method"))
def bleu_of_another_method(folder: Path) -> Got:
    return against(folder, other_bleu, "--strict", "--metric", "similarity")


@case("the same as JSON", kind="a figure is gone", expected="exit 0", says=('"estimate": null', '"undecided"'))
def bleu_of_another_method_as_json(folder: Path) -> Got:
    return against(folder, other_bleu, "--json", "--metric", "similarity")


@case("a file against itself, two names swapped", kind="given twice", expected="exit 2", says=("are one session",))
def itself_swapped(folder: Path) -> Got:
    path = folder / "one.json"
    path.write_text(text(entry("a", seed=1), entry("b", 1.5, seed=2)))
    return command("compare", str(path), str(path), "--renamed", "a=b", "--renamed", "b=a")


@case("power, and gates that are text", kind="another shape", expected="exit 2", says=("gates", "not usable"))
def power_gates_text(folder: Path) -> Got:
    record = run_record("old", verdicts=[]).model_copy(update={"config": {"gates": "strict"}})
    return command("power", str(save_record(record, folder)))


@case("power, and a margin that is true", kind="number that is none", expected="exit 2", says=("speed.tolerated",))
def power_margin_true(folder: Path) -> Got:
    record = run_record("old", verdicts=[]).model_copy(update={"config": {"gates": {"speed": {"tolerated": True}}}})
    return command("power", str(save_record(record, folder)))


@case("power, and a policy whose margin is text", kind="number that is none", expected="exit 2", says=("margin",))
def power_policy_text(folder: Path) -> Got:
    verdict = gated_record(1.0).verdicts[0]
    verdict = verdict.model_copy(update={"inputs": {**verdict.inputs, "gate": "speed", "policy": {"margin": "0.1"}}})
    return command("power", str(save_record(run_record("old", verdicts=[verdict]), folder)))


@case("a kept shift that is text", kind="number that is none", expected="RecordError", says=("shift", "valid number"))
def kept_shift(folder: Path) -> Got:
    config = {"gates": {"speed": {"shift": {"speedup": "0.01"}}}}
    return attempt(session_shift, run_record().model_copy(update={"config": config}), "speedup")


@case("a whole number of twenty digits", kind="number that is none", expected="float")
def twenty_digits(folder: Path) -> Got:
    return read_as(folder, 2**64)


@case("the largest whole number of 64 bits", kind="number that is none", expected="int")
def sixty_four_bits(folder: Path) -> Got:
    return read_as(folder, 2**64 - 1)


@case("the smallest whole number of 64 bits", kind="number that is none", expected="int")
def smallest(folder: Path) -> Got:
    return read_as(folder, -(2**63))


@case("a whole number below 64 bits", kind="number that is none", expected="float")
def below(folder: Path) -> Got:
    return read_as(folder, -(2**63) - 1)


def read_as(folder: Path, number: int) -> Got:
    (folder / "n.json").write_text(json.dumps({"n": number}))
    value = read_strictly(folder / "n.json")["n"]
    return Got(type(value).__name__ if value == number or isinstance(value, float) else "another", str(value))
