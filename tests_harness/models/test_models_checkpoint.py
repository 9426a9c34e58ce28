"""Checks of a checkpoint's files, its digest, and its tokenizer."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest
from enginegate.core.errors import ModelError
from enginegate.engines.checkpoint import link_checkpoint
from enginegate.models import digest as digest_module
from enginegate.models.digest import folder_digest
from enginegate.models.integrity import check_checkpoint
from enginegate.models.tokenizer import Tokenizer
from hypothesis import example, given
from hypothesis import strategies as st
from models_fakes import TEMPLATE, write_safetensors, write_small_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_checkpoint(tmp_path / "checkpoint")


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    check_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.BIN", "consolidated.00.pth"])
def test_pickled_weights_alone_are_refused_by_name(folder: Path, name: str) -> None:
    """Formerly they passed, and were loaded: reading a pickle runs the code in it."""
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match=f"as pickles alone .{name}.") as caught:
        check_checkpoint(folder)
    assert "save_pretrained" in caught.value.hint
    # Copies of files called *token* missed vocab.json and merges.txt.
    assert "AutoTokenizer.from_pretrained(DIR).save_pretrained(NEW_DIR)" in str(caught.value)
    # A file that loaders do not look for would let them take the pickle.
    write_safetensors(folder / "extra.safetensors", {"a": [1]})
    with pytest.raises(ModelError, match="as pickles alone"):
        check_checkpoint(folder)


def test_pickles_beside_safetensors_are_ignored_and_not_taken_into_an_engine(folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "modeling_own.py"):
        (folder / name).write_bytes(b"not read")
    check_checkpoint(folder)
    (tmp_path / "engine").mkdir()
    link_checkpoint(folder, tmp_path / "engine")
    names = {file.name for file in (tmp_path / "engine").iterdir()}
    assert "model.safetensors" in names
    assert not names & {"pytorch_model.bin", "training_args.bin", "modeling_own.py"}


def test_a_checkpoint_that_names_code_of_its_own_is_refused(folder: Path) -> None:
    """Formerly Transformers asked on the terminal whether to run it."""
    code = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "auto_map": code}))
    with pytest.raises(ModelError, match=r"names code .*configuration_own\.OwnConfig, modeling_own") as caught:
        check_checkpoint(folder)
    assert "take auto_map out" in caught.value.hint


def test_every_call_that_loads_a_checkpoint_says_that_its_code_is_not_trusted() -> None:
    """``trust_remote_code=False`` is stated: without it Transformers asks, and waits. Models take safetensors alone."""
    repository = Path(__file__).parents[2]
    places = ("harness", "scripts", "fixtures", "tests_trtllm")
    calls = 0
    for file in (file for place in places for file in (repository / place).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("from_pretrained", "from_config"):
                continue
            calls += 1
            said = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            where = f"{file}:{node.lineno}"
            assert said.get("trust_remote_code", "unsaid") is False, where
            if node.func.attr == "from_pretrained" and ast.unparse(node.func.value) == "AutoModelForCausalLM":
                assert said.get("use_safetensors") is True, where
    assert calls >= 8


def test_code_beside_a_tokenizer_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (folder / "tokenization_own.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nclass Own: pass\n"
    )
    with pytest.raises(ModelError, match="trust_remote_code"):
        Tokenizer.load(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "is not a JSON object"),
        ("config.json", b"{}", "no model_type"),
        ("model.safetensors", None, "has no weights"),
        ("model.safetensors", b"", "damaged"),
        ("model.safetensors", b"\x05\0\0\0\0\0\0\0{}", "damaged: its header should be 5 bytes"),
        ("model.safetensors", b"\x05\0\0\0\0\0\0\0{[}]x", "damaged"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 2}}', "weight_map places a in 2"),
    ],
)
def test_what_is_not_whole_is_refused(folder: Path, name: str, content: bytes | None, message: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        check_checkpoint(folder)
    assert str(folder) in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("change", [-1, 1])
def test_weights_shorter_or_longer_than_their_header_are_refused(folder: Path, change: int) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(ModelError, match="its header says"):
        check_checkpoint(folder)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a folder"):
        check_checkpoint(tmp_path / "nothing")


def digest(folder: Path, tmp_path: Path) -> str:
    return folder_digest(folder, cache=tmp_path / "cache", progress=print)


def test_the_digest_is_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    other = write_small_checkpoint(tmp_path / "elsewhere")
    first = digest(folder, tmp_path)
    assert digest(other, tmp_path) == first
    (other / "model.safetensors").rename(other / "renamed.safetensors")
    assert digest(other, tmp_path) != first


def test_hidden_files_do_not_count(folder: Path, tmp_path: Path) -> None:
    first = digest(folder, tmp_path)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("x")
    (folder / ".gitattributes").write_text("x")
    assert digest(folder, tmp_path) == first


def test_nothing_is_read_twice(folder: Path, tmp_path: Path, monkeypatch) -> None:
    first = digest(folder, tmp_path)
    read: list[Path] = []
    original = digest_module.read_content
    monkeypatch.setattr(digest_module, "read_content", lambda path: (read.append(path), original(path))[1])
    assert digest(folder, tmp_path) == first
    assert read == []
    write_safetensors(folder / "model.safetensors", {"a": [9, 9, 9]})
    assert digest(folder, tmp_path) != first
    assert read == [folder / "model.safetensors"]


def test_a_change_is_noticed_though_the_times_were_put_back(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    first, before = digest(folder, tmp_path), path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert digest(folder, tmp_path) != first


@pytest.mark.parametrize("notes", ["", "{", "[]", '{"config.json": 3}'])
def test_damaged_notes_are_ignored(folder: Path, tmp_path: Path, notes: str) -> None:
    first = digest(folder, tmp_path)
    (file,) = (tmp_path / "cache" / "digests").iterdir()
    file.write_text(notes)
    assert digest(folder, tmp_path) == first


def test_a_cache_that_cannot_be_written_does_not_matter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_digest(folder, cache=tmp_path / "file", progress=print) == digest(folder, tmp_path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_small_checkpoint(tmp_path_factory.mktemp("tokenizer"), template=TEMPLATE))


def test_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    # there is a merge of "1" and "2", which splitting digits must not allow
    assert [tokenizer.decode([i]) for i in tokenizer.encode("12 the 1")] == ["1", "2", " the", " ", "1"]


@given(text=st.text())
@example(text="<|im_start|>")
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(0 <= i < len(tokenizer.vocabulary) for i in ids)
    assert tokenizer.decode(ids, skip_special=False) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  leading and trailing  ",
        "Don't tidy , this . Or ' this '",
        "def f(x):\n\treturn x ** 2  # x²\r\n\n\n",
        "Übergröße, naïve, 東京, привет, 🙂👩‍👩‍👧, e\u0301",
        "a\u00a0b\u2009c\u200bd",
        "0123456789 3.14159 1,000,000",
    ],
)
def test_texts_come_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_nothing_is_added(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert len(tokenizer.encode("a")) == 1
    assert tokenizer.encode("a<|im_end|>")[1:] == [2]


def test_markers_are_left_out_unless_asked_for(tokenizer: Tokenizer) -> None:
    ids = [1, *tokenizer.encode("a b"), 2]
    assert tokenizer.decode(ids) == "a b"
    assert tokenizer.decode(tuple(ids), skip_special=False) == "<|im_start|>a b<|im_end|>"


def test_chat_is_the_template(tokenizer: Tokenizer) -> None:
    assert tokenizer.has_chat_template
    assert tokenizer.decode(tokenizer.chat("Hi"), skip_special=False) == "[user]Hi<|im_end|>"


def test_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_ids == (2, 0)
    assert tokenizer.bos_id == 1
    assert tokenizer.pad_id == 2
    assert len(tokenizer.vocabulary) == 3 + 256 + 4


def test_no_chat_template_is_a_clear_error(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    assert not tokenizer.has_chat_template
    with pytest.raises(ModelError, match=r"tokenizer_config\.json has no chat_template"):
        tokenizer.chat("Hi")


@pytest.mark.parametrize("content", [None, "{"])
def test_no_tokenizer_is_a_clear_error(folder: Path, content: str | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        Tokenizer.load(folder)


def test_generation_config_that_is_damaged_is_a_clear_error(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match="generation_config"):
        Tokenizer.load(folder)


def test_one_end_token_is_enough(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({}))
    assert Tokenizer.load(folder).eos_ids == (2,)
