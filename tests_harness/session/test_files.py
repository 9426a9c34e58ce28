"""The files of one model are checked before anything is built of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from enginegate.config.loading import load_config
from enginegate.core.errors import ModelError
from enginegate.session.files import ModelFiles

from tests_harness.fakes.workspace import CONFIG, Workspace, make_workspace


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path)


def files(place: Workspace, **quality: object) -> ModelFiles:
    reference = {"backend": "hf", "precision": "fp32"}
    config = place.variant(
        "toy",
        default_engine="hf",
        engines={"hf": {"precisions": ["fp32"]}},
        reference=reference,
        quality={**CONFIG["quality"], "reference": reference, **quality},  # type: ignore[dict-item]
        floors={},
    )
    return ModelFiles(load_config(config), place.folder / "cache", print)


def test_a_tokenizer_that_does_not_belong_to_the_model_stops_every_build(place: Workspace) -> None:
    (place.folder / "checkpoint" / "tokenizer.json").unlink()
    for _ in range(2):
        with pytest.raises(ModelError, match="no tokenizer"):
            _ = files(place).checkpoint


def test_plain_prompts_begin_with_bos_where_scored_texts_do(place: Workspace) -> None:
    opened = files(place, plain_prompts=True, add_bos=True).tokenizer
    assert opened.chat("a") == [1, *opened.encode("a")]
    bare = files(place, plain_prompts=True).tokenizer
    assert bare.chat("a") == bare.encode("a")
    chat = files(place, add_bos=True).tokenizer
    assert chat.opening == (), "the template writes its own"
