"""Files for ``enginegate compare`` and its kin as people have them: of other tools, other machines, and damaged."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, TextIO
from unittest import mock

from enginegate.cli import main
from enginegate.storage.runs import save_record
from field_case import Got, case

from tests_harness.storage.factory import gated_record, run_record

NAME = "tests/test_a.py::test_x[int8-b1]"
MACHINE = {"system": "Linux", "machine": "x86_64", "cpu": {"brand_raw": "CPU X", "count": 2}}
#: What no name in a file may do to the output.
STEERING = "x\x1b[2J\nunchanged     tests/test_a.py::test_x time: -1 %"
#: Half of a surrogate pair, which no encoding has.
HALF = "t[\ud83d]"


def entry(name: str = NAME, slow: float = 1.0, *, seed: int = 0, **changes: Any) -> dict[str, Any]:
    random = Random(f"{name!r}/{seed}")
    times = [0.01 * slow * random.lognormvariate(0, 0.005) for _ in range(12)]
    known = {"fullname": name, "group": None, "options": {"timer": "perf_counter"}, "stats": {"data": times}}
    return {**known, **changes}


def text(*entries: dict[str, Any], machine: Any = MACHINE) -> str:
    return json.dumps({"machine_info": machine, "benchmarks": list(entries)})


def bases(folder: Path, *names: str, **changes: Any) -> list[str]:
    """Six sound sessions."""
    paths = [folder / f"base{number}.json" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_text(text(*(entry(name, seed=number, **changes) for name in names or (NAME,))))
    return [str(path) for path in paths]


def command(*argv: str, stdout: TextIO | None = None) -> Got:
    """Exit code, and all that was printed."""
    out, err = stdout or io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    printed = "" if stdout else out.getvalue()  # type: ignore[attr-defined]
    return Got(f"exit {code}", printed + err.getvalue())


def compared(folder: Path, new: str | bytes, *options: str, names: Sequence[str] = (NAME,)) -> Got:
    """Six sound sessions against a file of this content."""
    path = folder / "new.json"
    path.write_bytes(new.encode("utf-8", "surrogatepass") if isinstance(new, str) else new)
    return command("compare", *bases(folder, *names), str(path), *options)


def sample(value: str) -> str:
    """A file whose second sample is this text."""
    return text(entry(stats={"data": [0.01, "HERE", 0.01]})).replace('"HERE"', value)


@case("a sample of true", kind="number that is none", expected="exit 2", says=(NAME, "true or false"))
def boolean_sample(folder: Path) -> Got:
    return compared(folder, sample("true"))


@case("a sample of 1e999", kind="number that is none", expected="exit 2", says=("new.json", "no float holds"))
def huge_float(folder: Path) -> Got:
    return compared(folder, sample("1e999"))


@case("a sample of 400 digits", kind="number that is none", expected="exit 2", says=("new.json", "no float holds"))
def huge_integer(folder: Path) -> Got:
    return compared(folder, sample("1" + "0" * 400))


@case("a sample of 5,000 digits", kind="number that is none", expected="exit 2", says=("no float holds",))
def endless_integer(folder: Path) -> Got:
    return compared(folder, sample("1" * 5000))


@case("a sample of NaN", kind="number that is none", expected="exit 2", says=(NAME, "NaN"))
def nan_sample(folder: Path) -> Got:
    return compared(folder, sample("NaN"))


@case("a sample that is text", kind="number that is none", expected="exit 2", says=(NAME, "text"))
def text_sample(folder: Path) -> Got:
    return compared(folder, sample('"0.01"'))


@case("a sample of 0 s", kind="number that is none", expected="exit 2", says=(NAME, "0 s"))
def zero_sample(folder: Path) -> Got:
    return compared(folder, sample("0.0"))


@case("a sample of 1e300 s", kind="number that is none", expected="exit 2", says=(NAME, "no run takes"))
def endless_sample(folder: Path) -> Got:
    return compared(folder, sample("1e300"))


@case("an extra_info with a whole number of 128 bits", kind="sound input", expected="exit 0", says=("1 unchanged",))
def long_extra_info(folder: Path) -> Got:
    return compared(folder, text(entry(seed=9, extra_info={"id": 2**127})))


@case("stats null", kind="another shape", expected="exit 2", says=(NAME, "--benchmark-save-data"))
def stats_null(folder: Path) -> Got:
    return compared(folder, text(entry(stats=None)))


@case("statistics without samples", kind="another shape", expected="exit 2", says=(NAME, "--benchmark-save-data"))
def statistics_alone(folder: Path) -> Got:
    return compared(folder, text(entry(stats={"min": 0.01, "mean": 0.01, "stddev": 0.0, "rounds": 12})))


@case("fullname null", kind="another shape", expected="exit 2", says=("benchmark 0", "fullname"))
def no_name(folder: Path) -> Got:
    return compared(folder, text(entry(fullname=None)))


@case("machine_info a list", kind="another shape", expected="exit 2", says=("machine_info", "a list"))
def machine_list(folder: Path) -> Got:
    return compared(folder, text(entry(), machine=["x"]))


@case("machine_info text", kind="another shape", expected="exit 2", says=("machine_info", "text"))
def machine_text(folder: Path) -> Got:
    return compared(folder, text(entry(), machine="x"))


@case(
    "machine_info null, twice as slow", kind="other machines", expected="exit 0", says=("INCONCLUSIVE", "does not say")
)
def machine_null(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2), machine=None))


@case("cpu as text, twice as slow", kind="other machines", expected="exit 0", says=("INCONCLUSIVE", "AMD"))
def cpu_text(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2), machine={"machine": "x86_64", "cpu": "AMD"}))


@case("cpu a list", kind="another shape", expected="exit 2", says=("machine_info.cpu", "a list"))
def cpu_list(folder: Path) -> Got:
    return compared(folder, text(entry(), machine={"cpu": ["AMD"]}))


@case("JSON 50,000 levels deep", kind="file that is none", expected="exit 2", says=("new.json", "too deeply"))
def deep(folder: Path) -> Got:
    return compared(folder, "[" * 50_000)


@case("an empty file", kind="file that is none", expected="exit 2", says=("new.json", "empty"))
def empty(folder: Path) -> Got:
    return compared(folder, "")


@case("a file cut off", kind="file that is none", expected="exit 2", says=("new.json",))
def cut_off(folder: Path) -> Got:
    return compared(folder, text(entry())[:-30])


@case("a gzip file cut off", kind="file that is none", expected="exit 2", says=("new.json", "gzip"))
def cut_off_gzip(folder: Path) -> Got:
    return compared(folder, gzip.compress(text(entry()).encode())[:-12])


@case("a folder without a run", kind="file that is none", expected="exit 2", says=("no session",))
def folder_alone(folder: Path) -> Got:
    return command("compare", *bases(folder), str(folder))


@case("a folder called run.json", kind="file that is none", expected="exit 2", says=("cannot be read", "directory"))
def folder_of_a_files_name(folder: Path) -> Got:
    (folder / "run.json" / "run.json").mkdir(parents=True)
    return command("compare", *bases(folder), str(folder / "run.json"))


@case("a file that may not be read", kind="file that is none", expected="exit 2", says=("cannot be read", "denied"))
def not_allowed(folder: Path) -> Got:
    with mock.patch.object(Path, "open", side_effect=PermissionError(13, "Permission denied")):
        return command("compare", *bases_unread(folder))


def bases_unread(folder: Path) -> list[str]:
    return [str(folder / "one.json"), str(folder / "two.json")]


@case("a name of 5,000 letters", kind="file that is none", expected="exit 2", says=("cannot be read", "too long"))
def long_name(folder: Path) -> Got:
    return command("compare", *bases(folder), "x" * 5000)


@case("a byte order mark", kind="sound input", expected="exit 1", says=("REGRESSION",))
def byte_order_mark(folder: Path) -> Got:
    return compared(folder, b"\xef\xbb\xbf" + text(entry(slow=2)).encode())


@case("UTF-16, as PowerShell writes", kind="sound input", expected="exit 1", says=("REGRESSION",))
def utf_16(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2)).encode("utf-16"))


@case("a file packed by gzip", kind="sound input", expected="exit 1", says=("REGRESSION",))
def packed(folder: Path) -> Got:
    return compared(folder, gzip.compress(text(entry(slow=2)).encode()))


@case(
    "two entries of one fullname, the slow one first", kind="given twice", expected="exit 2", says=(NAME, "two entries")
)
def twice(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2), entry()))


@case("benchmarks twice in one object", kind="given twice", expected="exit 2", says=("'benchmarks'", "twice"))
def key_twice(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2))[:-1] + ', "benchmarks": []}')


def damaged_record(folder: Path, change: str) -> Path:
    """A saved record, changed by a function of this module's RECORDS."""
    path = save_record(gated_record(1.0), folder / "runs")
    record = json.loads(path.read_text())
    RECORDS[change](record)
    path.write_text(json.dumps(record).replace('"HUGE"', "1e999"))
    return path


RECORDS: dict[str, Any] = {
    "race twice": lambda record: record["arenas"].append(record["arenas"][0]),
    "engine twice": lambda record: record["engines"].append(record["engines"][1]),
    "quality twice": lambda record: record["quality"].append(record["quality"][0]),
    "seconds true": lambda record: record["arenas"][0]["blocks"][0]["rounds"][0].update(seconds=True),
    "seconds huge": lambda record: record["arenas"][0]["blocks"][0]["rounds"][0].update(seconds="HUGE"),
    "seconds text": lambda record: record["arenas"][0]["blocks"][0]["rounds"][0].update(seconds="1.0"),
    "libraries null": lambda record: record["fingerprint"]["context"].update(libraries=None),
    "row short": lambda record: next(iter(record["quality"][0]["items"].values())).pop(),
    "gates text": lambda record: record["config"].update(gates="strict"),
    "devices text": lambda record: record["engines"][0]["spec"].update(tensor_parallel="two"),
}


@case("a record with one race twice", kind="given twice", expected="exit 2", says=("b1-i64-o64", "twice"))
def race_twice(folder: Path) -> Got:
    base = save_record(run_record("old"), folder / "runs")
    return command("compare", str(base), str(damaged_record(folder, "race twice")))


@case("a record with one engine twice", kind="given twice", expected="exit 2", says=("engine", "twice"))
def engine_twice(folder: Path) -> Got:
    return command("report", "--verdicts", str(damaged_record(folder, "engine twice")))


@case("a record with quality twice", kind="given twice", expected="exit 2", says=("quality", "twice"))
def quality_twice(folder: Path) -> Got:
    return command("accept", "--dry-run", str(damaged_record(folder, "quality twice")))


@case(
    "a record whose seconds are true", kind="number that is none", expected="exit 2", says=("seconds", "valid number")
)
def record_boolean(folder: Path) -> Got:
    return command("report", "--verdicts", str(damaged_record(folder, "seconds true")))


@case("a record whose seconds are 1e999", kind="number that is none", expected="exit 2", says=("no float holds",))
def record_huge(folder: Path) -> Got:
    return command("accept", "--dry-run", str(damaged_record(folder, "seconds huge")))


@case(
    "a record whose seconds are text", kind="number that is none", expected="exit 2", says=("seconds", "valid number")
)
def record_text(folder: Path) -> Got:
    return command("power", str(damaged_record(folder, "seconds text")))


@case("a record whose libraries are null", kind="another shape", expected="exit 2", says=("libraries",))
def record_libraries(folder: Path) -> Got:
    return command("accept", "--dry-run", str(damaged_record(folder, "libraries null")))


@case("a record with an item that lacks a number", kind="another shape", expected="exit 2", says=("item0", "5 numbers"))
def record_row(folder: Path) -> Got:
    return command("accept", "--dry-run", str(damaged_record(folder, "row short")))


@case("a record whose gates are text", kind="another shape", expected="exit 2", says=("gates", "not usable"))
def record_gates(folder: Path) -> Got:
    base = save_record(run_record("old"), folder / "runs")
    return command("compare", str(base), str(damaged_record(folder, "gates text")))


@case("a record of 'two' devices", kind="another shape", expected="exit 2", says=("tensor_parallel",))
def record_devices(folder: Path) -> Got:
    return command("report", "--verdicts", str(damaged_record(folder, "devices text")))


@case(
    "a laptop against servers, 1.8 times as slow",
    kind="other machines",
    expected="exit 0",
    says=("INCONCLUSIVE", "Laptop"),
)
def other_machine(folder: Path) -> Got:
    laptop = {**MACHINE, "machine": "aarch64", "cpu": {"brand_raw": "Laptop"}}
    return compared(folder, text(entry(slow=1.8), machine=laptop))


@case("the same with --strict", kind="other machines", expected="exit 3", says=("different machines",))
def other_machine_strictly(folder: Path) -> Got:
    laptop = {**MACHINE, "machine": "aarch64", "cpu": {"brand_raw": "Laptop"}}
    return compared(folder, text(entry(slow=1.8), machine=laptop), "--strict")


@case("the same with --across-machines", kind="other machines", expected="exit 1", says=("REGRESSION",))
def across_machines(folder: Path) -> Got:
    laptop = {**MACHINE, "machine": "aarch64", "cpu": {"brand_raw": "Laptop"}}
    return compared(folder, text(entry(slow=1.8), machine=laptop), "--across-machines")


@case("one base of another number of CPUs", kind="other machines", expected="exit 0", says=("INCONCLUSIVE", "4 CPUs"))
def other_count(folder: Path) -> Got:
    small = {**MACHINE, "cpu": {"brand_raw": "CPU X", "count": 4}}
    return compared(folder, text(entry(slow=1.8), machine=small))


@case("another node and Python, twice as slow", kind="sound input", expected="exit 1", says=("REGRESSION", "3.13"))
def other_node(folder: Path) -> Got:
    (folder / "old").mkdir()
    now, then = ({**MACHINE, "python_version": version, "node": version} for version in ("3.13.0", "3.11.0"))
    (folder / "new.json").write_text(text(entry(slow=2), machine=now))
    paths = bases(folder)
    for number, path in enumerate(map(Path, paths)):
        path.write_text(text(entry(seed=number), machine=then))
    return command("compare", *paths, str(folder / "new.json"))


@case(
    "process_time against perf_counter, faster",
    kind="other machines",
    expected="exit 3",
    says=("clocks", "process_time"),
)
def other_clock(folder: Path) -> Got:
    return compared(folder, text(entry(slow=0.4, options={"timer": "process_time"})), "--strict")


@case("process_time against perf_counter, slower", kind="other machines", expected="exit 0", says=("INCONCLUSIVE",))
def slower_by_another_clock(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2, options={"timer": "process_time"})))


@case("Chinese names, output in ASCII", kind="output", expected="exit 1", says=("REGRESSION", r"\u6a21"))
def ascii_output(folder: Path) -> Got:
    return encoded(folder, "ascii", "t[模型-é]")


@case("Chinese names as JSON, output in ASCII", kind="output", expected="exit 1", says=("t[模型-é😀]",))
def ascii_json(folder: Path) -> Got:
    got = encoded(folder, "ascii", "t[模型-é😀]", "--json")
    return Got(got.outcome, json.loads(got.text)["compared"][0]["benchmark"])


@case(
    "Chinese names as Markdown, output in Latin-1",
    kind="output",
    expected="exit 1",
    says=("REGRESSION", r"\u6a21", "é"),
)
def latin_markdown(folder: Path) -> Got:
    return encoded(folder, "latin-1", "t[模型-é]", "--markdown")


@case("half of a surrogate pair in a name", kind="output", expected="exit 1", says=("REGRESSION", r"\ud83d"))
def half_a_pair(folder: Path) -> Got:
    return encoded(folder, "utf-8", HALF)


@case("half of a surrogate pair in a name, as JSON", kind="output", expected="exit 1", says=(r"\ud83d",))
def half_a_pair_in_json(folder: Path) -> Got:
    return encoded(folder, "utf-8", HALF, "--json")


@case("a name that steers the terminal", kind="output", expected="exit 1", says=(r"x\x1b[2J\nunchanged",))
def steering_name(folder: Path) -> Got:
    return encoded(folder, "utf-8", STEERING)


def encoded(folder: Path, encoding: str, name: str, *options: str) -> Got:
    """A benchmark of this name that regressed, printed in an encoding as strict as Python's own."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    (folder / "new.json").write_text(text(entry(name, 2)))
    got = command("compare", *bases(folder, name), str(folder / "new.json"), *options, stdout=out)
    return Got(got.outcome, out.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]


class Closed(io.TextIOBase):
    """A pipe whose reader has left."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@case("a regression, and a reader that has left", kind="output", expected="exit 1")
def closed_pipe(folder: Path) -> Got:
    (folder / "new.json").write_text(text(entry(slow=2)))
    return command("compare", *bases(folder), str(folder / "new.json"), stdout=Closed())  # type: ignore[arg-type]


@case("nothing regressed, and a full disk", kind="output", expected="exit 2", says=("cannot be written",))
def full_disk(folder: Path) -> Got:
    (folder / "new.json").write_text(text(entry(seed=9)))
    full = open("/dev/full", "w")  # noqa: PTH123, SIM115 - closing it raises
    try:
        return command("compare", *bases(folder), str(folder / "new.json"), stdout=full)
    finally:
        with contextlib.suppress(OSError):
            full.close()


@case(
    "an error that nobody foresaw",
    kind="exit code",
    expected="exit 4",
    says=("ZeroDivisionError", "report", "no result"),
)
def unforeseen(folder: Path) -> Got:
    return broken(folder)[0]


@case(
    "what its report holds",
    kind="exit code",
    expected="exit 4",
    says=("Traceback", "numpy", "postgresql://me:***@host"),
)
def report_of_the_unforeseen(folder: Path) -> Got:
    got, written = broken(folder)
    return Got(got.outcome, written) if "hunter2" not in got.text + written else Got("a password", written)


@case("no folder for the report", kind="exit code", expected="exit 4", says=("Traceback", "postgresql://me:***@host"))
def report_without_a_folder(folder: Path) -> Got:
    return broken(folder / "absent")[0]


def broken(folder: Path) -> tuple[Got, str]:
    """A command with a fault of our own, and the report on it in this folder."""
    argv = ("compare", "postgresql://me:hunter2@host/db", "b.json")
    fault = ZeroDivisionError("at postgresql://me:hunter2@host/db")
    with (
        mock.patch.object(tempfile, "tempdir", str(folder)),
        mock.patch("enginegate.verdicts.sources.load_session", side_effect=fault),
    ):
        got = command(*argv)
    return got, "".join(path.read_text() for path in sorted(folder.glob("enginegate-error-*")))


SLOWER = (entry("t.py::test_b8", 1.3, group="decode"), entry("t.py::test_b1", seed=9, group="prefill"))
NAMES = ("t.py::test_b8", "t.py::test_b1")


@case("30 % slower", kind="margins by name", expected="exit 1", says=("REGRESSION",))
def no_margin(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), names=NAMES)


@case("30 % slower, a margin of 40 % for it", kind="margins by name", expected="exit 0", says=("2 unchanged",))
def benchmark_margin(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "3%", "--margin", "bench:*b8=40%", names=NAMES)


@case("30 % slower, a margin of 40 % for its group", kind="margins by name", expected="exit 0", says=("2 unchanged",))
def group_margin(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "group:decode=40%", names=NAMES)


@case("30 % slower, a margin of 40 % for the metric", kind="margins by name", expected="exit 0", says=("2 unchanged",))
def metric_margin(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "time=40%", names=NAMES)


@case("40 % for its group, 5 % for the benchmark", kind="margins by name", expected="exit 1", says=("the 5 % margin",))
def nearest_margin(folder: Path) -> Got:
    options = ("--margin", "bench:*b8=5%", "--margin", "group:decode=40%")
    return compared(folder, text(*SLOWER), *options, names=NAMES)


@case("brackets in a pattern", kind="margins by name", expected="exit 0", says=("1 unchanged",))
def brackets(folder: Path) -> Got:
    return compared(folder, text(entry(slow=1.3)), "--margin", f"bench:{NAME}=40%")


@case("a margin for a group that is not there", kind="names nothing", expected="exit 2", says=("group:decod", "decode"))
def margin_for_nothing(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "group:decod=40%", names=NAMES)


@case("two margins for one group", kind="given twice", expected="exit 2", says=("--margin",))
def margin_twice(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "5%", "--margin", "40%", names=NAMES)


@case("a margin of nan", kind="number that is none", expected="exit 2", says=("nan",))
def margin_nan(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--margin", "time=nan", names=NAMES)


@case("a filter that leaves the slow one out", kind="filter", expected="exit 0", says=("1 unchanged", "0 missing"))
def filtered(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--filter", "*_b1", names=NAMES)


@case("a filter that names nothing", kind="names nothing", expected="exit 2", says=("b16", "t.py::test_b1"))
def filter_for_nothing(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--filter", "*_b16", names=NAMES)


@case("a metric that is not there, beside one that is", kind="names nothing", expected="exit 2", says=("tiem", "time"))
def metric_for_nothing(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--metric", "time,tiem", names=NAMES)


@case(
    "a renamed benchmark that regressed",
    kind="renamed",
    expected="exit 1",
    says=("REGRESSION", "test_y[b=8]", "0 missing"),
)
def renamed_benchmark(folder: Path) -> Got:
    return compared(folder, text(entry("t.py::test_y[b=8]", 2)), "--renamed", f"{NAME}=t.py::test_y[b=8]")


@case("the same from a file", kind="renamed", expected="exit 1", says=("REGRESSION", "test_y[b=8]", "0 missing"))
def renamed_by_a_file(folder: Path) -> Got:
    (folder / "names.json").write_text(json.dumps({NAME: "t.py::test_y[b=8]"}))
    return compared(folder, text(entry("t.py::test_y[b=8]", 2)), "--renamed", f"@{folder / 'names.json'}")


@case("a renaming of what is not there", kind="names nothing", expected="exit 2", says=("test_z", NAME))
def renamed_nothing(folder: Path) -> Got:
    return compared(folder, text(entry(slow=2)), "--renamed", f"test_z={NAME}")


@case("a renaming onto another benchmark", kind="given twice", expected="exit 2", says=("two of the name",))
def renamed_onto_another(folder: Path) -> Got:
    return compared(folder, text(*SLOWER), "--renamed", "=".join(NAMES), names=NAMES)


@case("a renamed engine of records that got slower", kind="renamed", expected="exit 1", says=("REGRESSION", "ov-new"))
def renamed_engine(folder: Path) -> Got:
    old, new = "tiny-8m-openvino-int8_wo", "tiny-8m-ov-new"
    paths = [save_record(run_record(f"r{seed}", {old: 2.5}, (1,), False, seed), folder) for seed in range(6)]
    paths.append(save_record(run_record("new", {new: 2.0}, (1,), False, 7), folder))
    return command("compare", *map(str, paths), "--renamed", f"{old}={new}", "--metric", "speedup")


def single(folder: Path, base: float, new: float, *options: str) -> Got:
    """Files of one timing each."""
    for name, seconds in (("a", base), ("b", new)):
        (folder / f"{name}.json").write_text(text(entry(stats={"data": [seconds]})))
    return command("compare", str(folder / "a.json"), str(folder / "b.json"), *options)


@case("two single timings, 60 % slower", kind="too little to say", expected="exit 0", says=("INCONCLUSIVE", "fewer"))
def single_timing_slower(folder: Path) -> Got:
    return single(folder, 0.01, 0.016)


@case("two single timings, 60 % slower, --strict", kind="too little to say", expected="exit 3", says=("INCONCLUSIVE",))
def single_timing_slower_strictly(folder: Path) -> Got:
    return single(folder, 0.01, 0.016, "--strict")


@case("two single timings, 40 % faster", kind="too little to say", expected="exit 0", says=("INCONCLUSIVE", "fewer"))
def single_timing_faster(folder: Path) -> Got:
    return single(folder, 0.016, 0.01)


@case("a single timing of 10 s against six sessions", kind="too little to say", expected="exit 3", says=("fewer",))
def single_new_timing(folder: Path) -> Got:
    return compared(folder, text(entry(stats={"data": [10.0]})), "--strict")


@case("--metric ,", kind="names nothing", expected="exit 2", says=("--metric", "names nothing"))
def metric_of_a_comma(folder: Path) -> Got:
    return compared(folder, text(entry(seed=9)), "--metric", ",")


@case("--metric with an empty name", kind="names nothing", expected="exit 2", says=("--metric", "names nothing"))
def metric_of_nothing(folder: Path) -> Got:
    return compared(folder, text(entry(seed=9)), "--metric", "")


@case("--metric time, with spaces and a last comma", kind="sound input", expected="exit 0", says=("1 unchanged",))
def metric_with_a_comma(folder: Path) -> Got:
    return compared(folder, text(entry(seed=9)), "--metric", " time , ")


def on_a_full_disk(*argv: str, written_through: bool) -> Got:
    """Output that fails at once, as with PYTHONUNBUFFERED, or only when it is flushed."""
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
        stdout = io.TextIOWrapper(full if written_through else io.BufferedWriter(full), write_through=written_through)
        return command(*argv, stdout=stdout)


for number, argv in enumerate((["--version"], ["--help"], ["compare", "--help"])):
    for through in (True, False):

        def full(_: Path, argv: Sequence[str] = argv, through: bool = through) -> Got:
            return on_a_full_disk(*argv, written_through=through)

        full.__name__ = f"full_disk_{number}_{'at_once' if through else 'in_the_end'}"
        given = f"{' '.join(argv)} on a full disk, {'at once' if through else 'in the end'}"
        case(given, kind="output", expected="exit 2", says=("cannot be written",))(full)
