"""Whether a model chats, as the configuration that ``init`` writes says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enginegate.cli.init_configuration import _chats
from enginegate.core.errors import ModelError


@pytest.mark.parametrize(
    ("settings", "chats"),
    [
        ({"chat_template": "{{ messages }}"}, True),
        ({"chat_template": [{"name": "default", "template": "{{ messages }}"}]}, True),
        ({"chat_template": None}, False),
        ({"chat_template": ""}, False),
        ({"comment": 'has no "chat_template"'}, False),
    ],
)
def test_a_model_chats_where_its_tokenizer_has_a_template(settings: object, chats: bool, tmp_path: Path) -> None:
    assert not _chats(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert _chats(tmp_path) == chats
    (tmp_path / "chat_template.jinja").touch()
    assert _chats(tmp_path)


def test_settings_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ModelError, match="tokenizer_config"):
        _chats(tmp_path)
