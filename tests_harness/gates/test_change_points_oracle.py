"""Beside apache-otava, which grew out of Hunter: it sees the same levels. It lies in a folder of its own.

Installed without what it depends on, it brings no clients of clouds; its analysis needs numpy and scipy alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from enginegate.gates.change_points import segment

OTAVA = "apache-otava==0.8.0"
ASK = """
import json, sys
from otava.analysis import compute_change_points
answers = []
for values in json.load(sys.stdin):
    found, _ = compute_change_points(values, window_len=50, max_pvalue=0.0001)
    answers.append([int(each.index) for each in found])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def otava(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("otava")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), OTAVA]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"{OTAVA} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.heavy
def test_otava_finds_the_same_levels(otava):
    """In 40 series of three levels, each change of ours is one of its own within two points, but for a few."""
    generator = np.random.default_rng(12)
    series = []
    for _ in range(40):
        lengths, steps = generator.integers(30, 70, 3), generator.choice([-3.0, -2.0, 2.0, 3.0], 2)
        levels = np.repeat(100 + np.array([0.0, steps[0], steps[0] + steps[1]]), lengths)
        series.append(levels + generator.standard_normal(len(levels)))
    text = json.dumps([list(map(float, values)) for values in series])
    environment = os.environ | {"PYTHONPATH": str(otava)}
    done = subprocess.run([sys.executable, "-c", ASK], input=text, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = [[change.index for change in segment(values)] for values in series]
    pairs = [(place, found) for mine, found in zip(ours, theirs, strict=True) for place in mine]
    agreed = sum(any(abs(place - other) <= 2 for other in found) for place, found in pairs)
    assert len(pairs) >= 70
    assert agreed >= 0.9 * len(pairs)
    back = [(other, mine) for mine, found in zip(ours, theirs, strict=True) for other in found]
    assert sum(any(abs(place - other) <= 2 for place in mine) for other, mine in back) >= 0.85 * len(back)
