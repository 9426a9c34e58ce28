from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_gates", ROOT / "scripts" / "simulate_gates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_gates"] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_table_has_every_row_the_script_makes(simulation: ModuleType) -> None:
    document = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    committed = document.split("<!-- simulation: begin -->")[1].split("<!-- simulation: end -->")[0]
    made = "\n".join(simulation.tables(20))
    assert _names(committed) == _names(made)


def _names(text: str) -> list[str]:
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("index", range(10))
def test_the_noise_models_have_the_noise_they_say(simulation: ModuleType, index: int) -> None:
    noise = simulation.NOISES[index]
    reference, candidate = noise.session(np.random.default_rng(0), 2000, 40)
    assert reference.shape == candidate.shape == (2000, 40)
    within = np.median(np.std(np.diff(candidate, axis=1), axis=1)) / np.sqrt(2)
    expected = noise.round_sd * np.sqrt(1 - noise.correlation)
    if not (noise.outliers or noise.left_behind):
        assert within == pytest.approx(expected, rel=0.1)
    between = np.std(np.median(candidate, axis=1))
    assert between >= 0.9 * noise.session_sd


def test_welch_agrees_with_scipy(simulation: ModuleType) -> None:
    from scipy import stats

    noise = simulation.NOISES[1]
    cell = simulation.welch(30, 0.0, 0.05)(noise, 0.02, 300, np.random.default_rng(3))
    old, new = simulation._absolute(noise, 0.02, 300, 30, np.random.default_rng(3))
    oracle = stats.ttest_ind(new, old, axis=1, equal_var=False, alternative="greater").pvalue
    assert cell.fails == pytest.approx(float(np.mean(oracle < 0.05)))


def test_asv_agrees_with_scipy(simulation: ModuleType) -> None:
    from scipy import stats

    noise = simulation.NOISES[2]
    cell = simulation.asv(30)(noise, 0.15, 300, np.random.default_rng(3))
    old, new = simulation._absolute(noise, 0.15, 300, 30, np.random.default_rng(3))
    p_value = stats.mannwhitneyu(new, old, axis=1, method="asymptotic").pvalue
    ratio = np.exp(np.median(new, axis=1) - np.median(old, axis=1))
    assert cell.fails == pytest.approx(float(np.mean((p_value < 0.002) & (ratio > 1.1))))
