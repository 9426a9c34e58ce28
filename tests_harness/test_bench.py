"""A bench is found by a model's name or by a configuration file's."""

from __future__ import annotations

import pytest
from enginegate.config.project import own_folder
from enginegate.core.errors import ConfigError
from enginegate.session.bench import ModelBench


@pytest.mark.parametrize("model", ["tiny-random", str(own_folder("enginegate.configs") / "tiny-random.yaml")])
def test_bench_by_name_and_by_file(model):
    assert ModelBench.named(model, print).config.name == "tiny-random"


def test_bench_of_nothing_names_what_there_is():
    with pytest.raises(ConfigError, match="unknown model 'tiny-rundom'") as caught:
        ModelBench.named("tiny-rundom", print)
    assert "tiny-random" in caught.value.hint
