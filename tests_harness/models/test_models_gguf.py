"""GGUF files become checkpoints with the same weights and the same tokens."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from enginegate.core.errors import ModelError
from enginegate.models.gguf import convert_gguf
from enginegate.models.gguf_families import FAMILIES
from enginegate.models.gguf_file import GgufFile
from enginegate.models.gguf_tokenizer import write_tokenizer_of
from enginegate.models.integrity import check_checkpoint
from enginegate.models.tensors import stored_tensors
from enginegate.models.tokenizer import Tokenizer
from enginegate.models.whole import check_tensors
from models_fakes import TEMPLATE, random_weights, vocabulary, write_gguf
from safetensors.numpy import load_file


def convert(tmp_path: Path, **options: Any) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_gguf(tmp_path / "model.gguf", random_weights(), **options)
    convert_gguf(tmp_path / "model.gguf", folder, print)
    check_checkpoint(folder)
    return folder


def test_float_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    expected = random_weights()
    found = load_file(convert(tmp_path) / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


def test_quantized_weights_are_their_blocks_scale_times_integer_plus_offset(tmp_path: Path) -> None:
    found = load_file(convert(tmp_path, quantization="Q4_1") / "model.safetensors")
    for name, weight in random_weights().items():
        if weight.ndim == 1:
            np.testing.assert_array_equal(found[name], weight)
            continue
        assert found[name].dtype == np.float32
        blocks, original = found[name].reshape(-1, 32), weight.reshape(-1, 32)
        assert max(len(np.unique(block)) for block in blocks) <= 16
        step = (original.max(axis=1) - original.min(axis=1)) / 15
        # half a step from the rounding, and the float16 of scale and offset
        assert np.all(np.abs(blocks - original) <= 0.5 * step[:, None] + 1e-3)


def test_the_config_is_the_metadata(tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = convert(tmp_path)
    written = json.loads((folder / "config.json").read_text())
    assert written["rms_norm_eps"] == 1e-5
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 64, 96)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 16)
    assert config.tie_word_embeddings is True
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert "rope_theta" in written
    rope = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", None)}
    assert rope["rope_theta"] == 100000.0
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def test_the_tokenizer_is_the_files(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(convert(tmp_path))
    assert tokenizer.has_chat_template
    assert json.loads((tmp_path / "checkpoint" / "tokenizer_config.json").read_text())["chat_template"] == TEMPLATE
    assert [tokenizer.decode([i]) for i in tokenizer.encode("the 12the")] == ["the", " ", "1", "2", "the"]


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        convert(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one" / "checkpoint").iterdir())
    assert len(files) == 5
    for name in files:
        one, two = (tmp_path / folder / "checkpoint" / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_large_model_is_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enginegate.models.gguf._FILE_BYTES", 70_000)
    folder = convert(tmp_path)
    check_tensors(folder)
    stored = stored_tensors(folder)
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 2
    assert files[-1] == f"model-{len(files):05d}-of-{len(files):05d}.safetensors"
    assert not list(folder.glob("*.part"))
    found = {name: weight for file in files for name, weight in load_file(folder / file).items()}
    assert found.keys() == stored.keys() == random_weights().keys()
    for name, weight in random_weights().items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


def test_an_output_matrix_of_its_own_unties_the_embeddings(tmp_path: Path) -> None:
    weights = random_weights()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    (tmp_path / "checkpoint").mkdir()
    write_gguf(tmp_path / "model.gguf", weights)
    convert_gguf(tmp_path / "model.gguf", tmp_path / "checkpoint", print)
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["tie_word_embeddings"] is False
    found = load_file(tmp_path / "checkpoint" / "model.safetensors")
    np.testing.assert_array_equal(found["lm_head.weight"], weights["lm_head.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "mamba"}, r"the architecture 'mamba' cannot be converted here; gemma2, gemma3, llama"),
        ({"pre_tokenizer": "tekken"}, r"the pre-tokenizer 'tekken' is not known here .* a guess would"),
        ({"more": {"tokenizer.ggml.model": "t5"}}, r"the tokenizer 't5' is not known here"),
        ({"more": {"llama.rope.scaling.type": "yarn"}}, r"rope\.scaling\.type is 'yarn', and only 'none', 'linear'"),
        ({"more": {"llama.expert_count": 8}}, r"llama\.expert_count is 8, and only 0"),
        ({"more": {"llama.rope.dimension_count": 8}}, r"llama\.rope\.dimension_count is 8, and only 16"),
        ({"more": {"llama.attention.sliding_window": 32}}, r"sliding_window is 32"),
        (
            {"more": {"llama.logit_scale": 0.5}},
            r"has 1 settings of its model that are not known here \(llama\.logit_sc",
        ),
        ({"more": {"llama.vocab_size": 5}}, r"says a vocabulary of 5, but holds 263 tokens"),
        ({"more": {"tokenizer.ggml.eos_token_id": 263}}, r"special tokens have ids \[263\], but there are 263 tokens"),
        ({"more": {"split.count": 3}}, r"is one of 3 parts of a model"),
        ({"more": {"general.type": "adapter"}}, r"holds no model, but 'adapter'"),
        ({"more": {"llama.block_count": 99}}, r"says 99 layers, but holds 20 tensors"),
        ({"more": {"llama.attention.key_length": 15}}, r"says heads of 15 values, but rotary"),
    ],
)
def test_what_is_not_known_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        convert(tmp_path, **options)
    assert caught.value.hint


def test_a_tensor_type_that_gguf_does_not_know_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    content = (tmp_path / "model.gguf").read_bytes()
    place = content.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8  # after axes and length
    (tmp_path / "model.gguf").write_bytes(content[:place] + (199).to_bytes(4, "little") + content[place + 4 :])
    with pytest.raises(ModelError, match=r"tensor type that the installed gguf does not know: .*199") as caught:
        convert_gguf(tmp_path / "model.gguf", tmp_path, print)
    assert "newer gguf" in caught.value.hint


@pytest.mark.parametrize(
    ("quantization", "file_type", "expected"),
    [
        ("F32", None, ""),
        ("F32", 15, ""),  # what it says of itself is not so
        ("Q4_1", None, "4 bits (Q4_1)"),
        ("Q8_0", 7, "8 bits (Q8_0)"),
        ("Q5_0", 15, "4 bits (Q4_K_M)"),
        ("Q5_0", 1, "5 bits (Q5_0)"),
        ("Q5_0", 7777, "5 bits (Q5_0)"),
    ],
)
def test_the_main_quantization_is_the_files_own_word_for_it(
    quantization: str, file_type: int | None, expected: str, tmp_path: Path
) -> None:
    more = {} if file_type is None else {"general.file_type": file_type}
    write_gguf(tmp_path / "model.gguf", random_weights(), quantization=quantization, more=more)
    assert convert_gguf(tmp_path / "model.gguf", tmp_path, print) == expected


@pytest.mark.parametrize(("embedding", "output", "kept"), [("Q4_0", "Q8_0", "Q8_0"), ("Q8_0", "Q4_0", "Q8_0")])
def test_two_copies_of_a_tied_matrix_are_one_again(embedding: str, output: str, kept: str, tmp_path: Path) -> None:
    weights = random_weights()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    types = {"token_embd.weight": embedding, "output.weight": output}
    (tmp_path / "checkpoint").mkdir()
    write_gguf(tmp_path / "model.gguf", weights, types=types)
    convert_gguf(tmp_path / "model.gguf", tmp_path / "checkpoint", print)
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["tie_word_embeddings"] is True
    found = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert "lm_head.weight" not in found
    kind = gguf.GGMLQuantizationType[kept]
    expected = gguf.dequantize(gguf.quants.quantize(weights["lm_head.weight"], kind), kind)
    np.testing.assert_array_equal(found["model.embed_tokens.weight"], expected)


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    weights = random_weights()
    del weights["model.norm.weight"]
    write_gguf(tmp_path / "model.gguf", weights)
    with pytest.raises(ModelError, match=r"missing \['output_norm"):
        convert_gguf(tmp_path / "model.gguf", tmp_path, print)


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_cut_or_foreign_file_is_refused(keep: int, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    content = (tmp_path / "model.gguf").read_bytes()[:keep]
    (tmp_path / "cut.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path, print)


def test_a_file_cut_in_its_tensors_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_weights())
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "model.gguf").read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path, print)


# tokenizers

TEXTS = [
    "I'll say DON'T, we'Re 12345 and 1,234.5!",
    "a  b   c\n\n\td = f(x)\r\n  #",
    "naïve Ünïcödé 東京 🙂 e\u0301 \u200b\u00a0x",
    " leading and trailing ",
    "",
]


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe", "gpt-2"])
def test_words_are_cut_as_transformers_cuts_them(name: str, tmp_path: Path) -> None:
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Raw
    from transformers.convert_slow_tokenizer import GPT2Converter, Qwen2Converter, TikTokenConverter

    convert(tmp_path, pre_tokenizer=name)
    ours = Raw.from_file(str(tmp_path / "checkpoint" / "tokenizer.json"))
    if name == "llama-bpe":
        words = pre_tokenizers.Split(Regex(TikTokenConverter(vocab_file="").pattern), "isolated")
        cut = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        normalizer = None
    else:
        converter = {"qwen2": Qwen2Converter, "gpt-2": GPT2Converter}[name](SimpleNamespace())
        made = converter.converted(ours.get_vocab(with_added_tokens=False), [("t", "h")])
        cut, normalizer = made.pre_tokenizer, made.normalizer
    assert (ours.normalizer is None) == (normalizer is None)
    for text in TEXTS:
        text = normalizer.normalize_str(text) if normalizer else text
        if normalizer:
            assert ours.normalizer.normalize_str(text) == text
        assert ours.pre_tokenizer.pre_tokenize_str(text) == cut.pre_tokenize_str(text)


def test_tokens_of_a_model_s_makers_are_matched_whole_and_are_text(tmp_path: Path) -> None:
    tokens = [*vocabulary(), "<tool>", "[PAD1]"]
    types = [3, 3, 3] + [1] * (len(tokens) - 5) + [4, 5]
    weights = random_weights()
    rows = np.zeros((2, weights["model.embed_tokens.weight"].shape[1]), dtype=np.float32)
    weights["model.embed_tokens.weight"] = np.concatenate([weights["model.embed_tokens.weight"], rows])
    more = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    write_gguf(tmp_path / "model.gguf", weights, more=more)
    (tmp_path / "checkpoint").mkdir()
    convert_gguf(tmp_path / "model.gguf", tmp_path / "checkpoint", print)
    tokenizer = Tokenizer.load(tmp_path / "checkpoint")
    assert tokenizer.encode("<tool>") == [tokens.index("<tool>")]
    assert tokenizer.decode(tokenizer.encode("<tool>the<|im_end|>")) == "<tool>the"
    assert "[PAD1]" not in tokenizer.vocabulary
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["vocab_size"] == len(tokens)


PIECES = [
    "▁",
    *"abcdehlnorst ",
    "é",
    "th",
    "▁th",
    "▁the",
    "he",
    "▁a",
    "at",
    "▁at",
    "hat",
    "llo",
    "lo",
    "ll",
    "▁hello",
    "▁he",
]


def sentencepiece(more: dict[str, Any], markers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Metadata of a SentencePiece BPE: unknown, BOS, end, bytes, markers, pieces with the score of their rank."""
    pieces = [piece for piece in PIECES if piece != " "]
    head = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *markers]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*head, *pieces],
        "tokenizer.ggml.scores": [0.0] * len(head) + [-float(rank) for rank in range(len(pieces), 0, -1)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[3] * len(markers), *[1] * len(pieces)],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        **more,
    }


def pieces_of(text: str, metadata: dict[str, Any]) -> list[int]:
    """SentencePiece's own rule, written out: join the two neighbours that make the token of the highest score."""
    ids = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    kinds, scores = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.scores"]
    parts = list(text)
    while True:
        pairs = [(scores[ids[a + b]], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ids]
        if not pairs:
            break
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    found = []
    for part in parts:
        known = part in ids and kinds[ids[part]] == 1
        found += [ids[part]] if known else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


def convert_pieces(tmp_path: Path, metadata: dict[str, Any], architecture: str = "llama") -> Path:
    """A tokenizer alone, written of metadata."""
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", architecture)
    writer.add_context_length(128)
    for key, value in {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, **metadata}.items():
        kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
        writer.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    file = GgufFile.read(tmp_path / "model.gguf")
    write_tokenizer_of(file, FAMILIES[architecture], folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 1000}))
    return folder


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_is_merged_by_its_scores(prefix: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    metadata = sentencepiece({"tokenizer.ggml.add_space_prefix": prefix})
    tokenizer = AutoTokenizer.from_pretrained(convert_pieces(tmp_path, metadata))
    for text in ["the hat", "hello at the hat", "a  b", "höre é", "that hatllo", "<0x41>", " at"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == pieces_of(("▁" if prefix else "") + text.replace(" ", "▁"), metadata), text
        assert tokenizer.decode(ids) == text
    assert tokenizer("at")["input_ids"][0] == 1  # BOS, which is usual with this kind


def test_bos_is_written_as_the_file_says(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    metadata = sentencepiece({"tokenizer.ggml.add_bos_token": False})
    tokenizer = AutoTokenizer.from_pretrained(convert_pieces(tmp_path, metadata))
    assert 1 not in tokenizer("at")["input_ids"]


def test_markers_of_phi_take_the_white_space_behind_them(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    metadata = sentencepiece({}, markers=("<|user|>", "<|endoftext|>"))
    tokenizer = AutoTokenizer.from_pretrained(convert_pieces(tmp_path, metadata, "phi3"))
    tokens = metadata["tokenizer.ggml.tokens"]
    assert tokenizer("<|user|>\n at", add_special_tokens=False)["input_ids"] == [
        tokens.index("<|user|>"),
        tokens.index("▁at"),
    ]
    newline = tokens.index("<0x0A>")
    assert newline in tokenizer("<|endoftext|>\nat", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tokenizer.ggml.scores": [0.0]}, "tokens have 1 scores"),
        ({"tokenizer.ggml.remove_extra_whitespaces": True}, "remove_extra_whitespaces is True, and only False"),
        ({"tokenizer.ggml.token_type": [1]}, "have 1 types"),
    ],
)
def test_a_sentencepiece_that_contradicts_itself_is_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        convert_pieces(tmp_path, sentencepiece(more))
