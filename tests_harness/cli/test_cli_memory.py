"""``enginegate memory``: the table, its files, what fits, and input that cannot be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from enginegate.cli import main
from enginegate.models.randomized import GEOMETRIES

REPOSITORY = Path(__file__).resolve().parents[2]
TINYLLAMA = str(REPOSITORY / "configs" / "tinyllama_fp16.yaml")

pytest.importorskip("torch")


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["memory", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", *arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture
def config_json(tmp_path: Path) -> Path:
    file = tmp_path / "some-model" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(GEOMETRIES["tiny"].config), encoding="utf-8")
    return file


def test_the_seeds_command_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """``--config … --batch_sizes 1 4 8 16 --sequence_lengths 256 512 1024``: TinyLlama keeps 22,528 bytes a token.

    The pool has a spare block of 32 tokens for each sequence, since that is what the adapters ask for.
    """
    sizes = ("--batch_sizes", "1", "4", "8", "16", "--sequence_lengths", "256", "512", "1024")
    (report,) = asked(capsys, "--config", TINYLLAMA, *sizes)
    assert report["kv"]["bytes_per_token"] == 22 * 2 * 4 * 64 * 2
    assert {(row["batch_size"], row["tokens"]): row["kv"] for row in report["rows"]} == {
        (batch, tokens): batch * (tokens + 32) * 22_528 for batch in (1, 4, 8, 16) for tokens in (256, 512, 1024)
    }
    assert main(["memory", "--config", TINYLLAMA, *sizes]) == 0
    out = capsys.readouterr().out
    assert "22 layers of grouped-query (4 KV heads of 64)" in out
    assert "16     1,024   2.2 GB   380.6 MB" in out


def test_every_file_and_option(capsys: pytest.CaptureFixture[str], tmp_path: Path, config_json: Path) -> None:
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("100\n200 56\n33\n", encoding="utf-8")
    files = ("--csv", str(tmp_path / "table.csv"), "--plot", str(tmp_path / "map.png"))
    reports = asked(
        *(capsys, "--model", str(config_json), "--engine", "openvino,vllm", "--precision", "int8_wo", "--fits", "1GB"),
        *("--batch-sizes", "1", "2", "--sequence-lengths", "64", "128", "--lengths", str(lengths), *files),
    )
    assert [report["engine"] for report in reports] == ["some-model-openvino-int8_wo", "some-model-vllm-int8_wo"]
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["kv (bytes)"]) for row in rows] == [row["kv"] for report in reports for row in report["rows"]]
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    paging = reports[1]["paging"]
    assert paging["lengths"]["count"] == 3
    assert paging["sizes"][0]["waste"] == pytest.approx(1 - 389 / (16 * (7 + 16 + 3)))
    drawn = ("--model", str(config_json), "--draw", "constant:64:128", "--seed", "3", "--sequence-lengths", "64")
    assert asked(capsys, *drawn)[0]["paging"]["lengths"]["mean"] == 64


def test_kv_formats_of_an_engine(capsys: pytest.CaptureFixture[str], config_json: Path) -> None:
    def token_bytes(engine: str, kv_format: str) -> float:
        chosen = ("--engine", engine, "--precision", "bf16", "--kv-format", kv_format, "--sequence-lengths", "64")
        (report,) = asked(capsys, "--model", str(config_json), *chosen)
        return report["kv"]["bytes_per_token"]

    assert token_bytes("vllm", "fp8") == 2 * 2 * 2 * 16
    assert token_bytes("vllm", "int8_per_token_head") == 2 * 2 * 2 * (16 + 4)
    assert "no KV cache in 'int3'" in refused(
        capsys, "--model", str(config_json), "--engine", "vllm", "--precision", "bf16", "--kv-format", "int3"
    )


@pytest.mark.parametrize("engine", ["openvino", "vllm", "trtllm-torch", "hf"])
def test_what_fits_is_the_largest_that_fits(capsys: pytest.CaptureFixture[str], config_json: Path, engine: str) -> None:
    """One more sequence, or one more block, is over the memory by the same command's own table."""
    model = ("--model", str(config_json), "--engine", engine, "--precision", "fp32" if engine != "vllm" else "bf16")
    memory = 2_000_000_000
    (report,) = asked(capsys, *model, "--fits", str(memory), "--batch-sizes", "700", "--sequence-lengths", "512")
    fits = report["fits"]
    batch = fits["batch_at"]["512"]
    again = ("--batch-sizes", str(batch), str(batch + 1), "--sequence-lengths", "512")
    (report,) = asked(capsys, *model, *again)

    def needed(row: dict) -> int:
        own = row["own"] or 0
        return row["copies"] * row["weights"] + row["kv"] + row["activations"] + own + fits["context"]

    below, above = map(needed, report["rows"])
    assert below <= memory < above
    assert 1 <= fits["tokens_at"]["700"] <= 2048


def test_a_fraction_is_what_the_engine_takes_it_for(capsys: pytest.CaptureFixture[str], config_json: Path) -> None:
    found = {}
    for engine in ("vllm", "trtllm-torch"):
        model = ("--model", str(config_json), "--engine", engine, "--precision", "bf16")
        (report,) = asked(capsys, *model, "--fits", "10GB", "--fraction", "50%", "--sequence-lengths", "64")
        found[engine] = report["fits"]["fraction_of"]
    assert found == {"vllm": "total", "trtllm-torch": "free"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--batch-sizes", "0"), "not a whole number from 1"),
        (("--batch-sizes", "-1"), "'-1' is not a whole number"),
        (("--sequence-lengths", "many"), "is not a whole number"),
        (("--sequence-lengths", "4096"), "has positions for 2048"),
        (("--fits", "lots"), "--fits"),
        (("--fraction", "0"), "is not a share above 0"),
        (("--fraction", "1.5"), "is not a share above 0"),
        (("--prove",), "give --fits too"),
        (("--prove", "--fits", "1GB"), "no weights to load"),
        (("--lengths", "none.txt"), "none.txt cannot be read"),
        (("--draw", "normal:5:9"), "no distribution 'normal'"),
        (("--draw", "uniform"), "not KIND:MEAN:LONGEST"),
        (("--csv", "/nowhere/table.csv"), "/nowhere/table.csv cannot be written"),
        (("--plot", "/nowhere/map.png"), "/nowhere/map.png cannot be written"),
        (("--engine", "openvinno"), "openvinno"),
        (("--precision", "int9"), "int9"),
        (("--config", "configs/tiny-random.yaml"), "both name a model"),
    ],
)
def test_input_that_cannot_be(
    capsys: pytest.CaptureFixture[str], config_json: Path, arguments: tuple[str, ...], problem: str
) -> None:
    assert problem in refused(capsys, "--model", str(config_json), *arguments)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"layer_types": ["linear_attention"] * 2}, "linear_attention"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_models_without_a_law_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], config_json: Path, changes: dict, problem: str
) -> None:
    config_json.write_text(json.dumps(GEOMETRIES["tiny"].config | changes), encoding="utf-8")
    said = refused(capsys, "--model", str(config_json))
    assert problem in said
    assert "config.json" in said


def test_a_model_that_transformers_does_not_know_has_a_kv_cache_and_no_weights(
    capsys: pytest.CaptureFixture[str], config_json: Path
) -> None:
    config_json.write_text(json.dumps(GEOMETRIES["tiny"].config | {"model_type": "newer"}), encoding="utf-8")
    (report,) = asked(capsys, "--model", str(config_json), "--sequence-lengths", "64")
    assert report["no_weights"]
    assert all(row["weights"] is None and row["kv"] > 0 for row in report["rows"])
    assert "nobody can tell how large the weights" in refused(capsys, "--model", str(config_json), "--fits", "1GB")
