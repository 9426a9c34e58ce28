"""``--shard I/N``: the whole session is planned in each shard, and the shard's own engines run."""

from __future__ import annotations

import math

import pytest
from enginegate.cli import main
from enginegate.core.errors import ConfigError
from enginegate.plan.shards import Shard, deal, read_shard
from enginegate.report.verdicts import recompute_verdicts
from enginegate.storage.runs import load_record
from hypothesis import given
from hypothesis import strategies as st

pytest_plugins = ["pytester"]

TESTS = ("tests_perf/test_speedup.py", "tests_quality/test_perplexity.py", "tests_quality/test_multiple_choice.py")
INT8, INT4 = "toy-fake-int8_wo", "toy-fake-int4_wo"


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 12))
def test_every_engine_is_dealt_to_one_shard_and_shards_are_alike_in_size(engines, of):
    dealt = deal(engines, of)
    assert len(dealt) == of
    assert sorted(engine for each in dealt for engine in each) == sorted(engines)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@pytest.mark.parametrize("text", ["x", "1", "1/", "/3", "1/2/3", "-1/3", "1.5/3", " 1/3", "1/3\n", "١/٣", "1/99999"])
def test_what_is_no_shard(text):
    with pytest.raises(ConfigError, match="names no shard") as caught:
        read_shard(text)
    assert "--shard 1/3" in caught.value.hint


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "0/0"])
def test_what_shard_there_is_not(text):
    with pytest.raises(ConfigError, match=f"there is no shard {text.replace('/', ' of ')}"):
        read_shard(text)


def test_what_is_a_shard():
    assert read_shard("") is None
    assert read_shard("2/3") == Shard(2, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard=0/3"], "--shard '0/3': there is no shard 0 of 3"),
        (["--shard=half"], "--shard 'half' names no shard"),
        (["--shard=1/2", "--gate-audit"], "--shard and --gate-audit do not go together"),
    ],
)
def test_a_bad_shard_is_a_usage_error(suite, arguments, said):
    result = suite.run("tests_quality", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_shards_run_their_engines_and_are_merged_into_the_session(suite, capsys):
    suite.prepare(sabotage="Unsure", precision="int4_wo")
    parts = []
    for shard, engine in (("1/2", INT8), ("2/2", INT4)):
        result = suite.run(*TESTS, f"--shard={shard}", "--batch-size=1")
        part = suite.record()
        parts.append(part)
        result.stdout.fnmatch_lines(
            [f"shard {shard}: {engine} (1 of 2 engines; all 10 gates of the session share its error budget)"]
        )
        result.stdout.no_fnmatch_line("next: *")
        assert {verdict.engine for verdict in part.verdicts} == {engine}
        assert [entry.id for entry in part.engines if entry.role == "candidate"] == [engine]
        assert part.arenas[0].contestants == ["toy-fake-fp32", engine]
        assert part.quality_planned == [engine]
        assert all(math.isclose(each.alpha, 0.01 / 10, rel_tol=1e-6) for each in part.verdicts), "one budget for all"
    assert parts[0].shards.plan == parts[1].shards.plan
    runs = suite.folder / "runs"
    code = main(["merge", *(part.id for part in parts), "--runs", str(runs)])
    record = suite.record()
    assert code == int(any(not verdict.accepted for verdict in record.verdicts))
    assert record.status == "complete"
    assert record.verdicts == [*parts[0].verdicts, *parts[1].verdicts]
    assert all(outcome.agrees for outcome in recompute_verdicts(record))
    assert f"shards 1, 2 of 2: {runs / record.id}" in capsys.readouterr().out


def test_what_other_shards_run_is_not_collected_and_all_plan_alike_in_any_order(suite):
    """Each shard's tests are shuffled by a seed of its own where pytest-randomly is there."""
    plain = suite.run("tests_quality", "--shard=2/2", "--collect-only", "-q")
    assert plain.ret == 0
    plain.stdout.fnmatch_lines(["*test_determinism*[[]toy-fake-int4_wo]*"])
    plain.stdout.no_fnmatch_line("*int8_wo]")
    reverse = "\ndef pytest_collection_modifyitems(items):\n    items.reverse()\n"
    found = []
    for more in ("", reverse):
        suite.prepare(more=more)
        suite.run("tests_quality/test_perplexity.py", "--shard=1/2")
        found.append(suite.record().shards)
    assert found[0].engines == found[1].engines == [[INT8], [INT4]]
    assert found[0].plan == found[1].plan


def test_an_empty_shard_is_green_and_says_so(suite):
    result = suite.run("tests_quality/test_perplexity.py", "--shard=3/3", "--require-gpu")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [f"shard 3/3 is empty: the session's 2 engine(s) are run by other shards ({INT8}, {INT4})"]
    )
    result.stdout.no_fnmatch_line("*no test ran an engine*")
    assert not (suite.folder / "runs").exists()
    assert suite.run("tests_quality", "--shard=3/3", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.heavy
def test_an_empty_shard_is_green_beside_xdist(suite):
    result = suite.run_apart("tests_quality/test_perplexity.py", "--shard=3/3", "-n1", "--dist=loadgroup")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*shard 3/3 is empty*"])
    result = suite.run_apart("tests_quality/test_perplexity.py", "--shard=1/2", "-n1", "--dist=loadgroup")
    assert result.ret == pytest.ExitCode.OK
    record = suite.record()
    assert {verdict.engine for verdict in record.verdicts} == {INT8}
    assert str(record.shards) == "shard 1 of 2"


def test_tests_of_other_plans_are_no_shards_of_one_session(suite, capsys):
    runs = []
    for shard, precision in (("1/2", "int8_wo,int4_wo"), ("2/2", "int8_wo,bf16")):
        suite.run("tests_quality/test_perplexity.py", f"--shard={shard}", f"--precision={precision}")
        runs.append(suite.record().id)
    assert main(["merge", *runs, "--runs", str(suite.folder / "runs")]) == 2
    assert "what the whole session tests (tests, engines, options) differs" in capsys.readouterr().err


def test_a_shard_raced_against_a_live_base_names_its_commit(suite):
    from tests_harness.plugin.test_plugin_against import committed

    suite.prepare(virtual=False)
    config = committed(suite, "before", 1.0, "six==1.16.0\n")
    suite.run("tests_quality/test_perplexity.py", "--shard=1/2", "--against=git:before", config=config)
    record = load_record(suite.folder / "runs" / suite.record().id)
    assert len(record.shards.base) == 40
    assert {verdict.engine for verdict in record.verdicts} == {INT8}
