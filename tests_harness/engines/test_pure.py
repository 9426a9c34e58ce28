"""The engines' calculations, without an engine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from enginegate.core.errors import CapabilityError, EngineError
from enginegate.core.specs import EngineSpec, QuantizationSpec, RuntimeSpec
from enginegate.engines.checkpoint import Geometry, read_passages
from enginegate.engines.openvino import kv_cache, precisions
from enginegate.engines.openvino.weights import Weights, read_weights
from enginegate.engines.requests import (
    STEPPED_CACHE,
    eos_token_ids,
    length_batches,
    score_rows,
    shared_rows,
    shared_stems,
)
from enginegate.machine import cpu
from hypothesis import given
from hypothesis import strategies as st

GEOMETRY = Geometry(layers=30, heads=3, head_size=64, positions=8192)


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 300), st.integers(1, 8))
def test_batches_hold_every_item_once_within_budget(lengths, budget, largest):
    batches = length_batches(lengths, budget, largest)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= largest
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


#: Few different tokens, so that sequences often begin alike.
SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=6), max_size=20)


@given(SEQUENCES)
def test_a_row_serves_every_sequence_that_its_input_begins_with(sequences):
    groups = shared_rows(sequences)
    assert sorted(index for group in groups for index in group) == list(range(len(sequences)))
    rows = [sequences[group[0]][:-1] for group in groups]
    for group, row in zip(groups, rows, strict=True):
        assert all(sequences[index][:-1] == row[: len(sequences[index]) - 1] for index in group)
    for row in rows:  # no row would have done for another
        assert sum(other[: len(row)] == row for other in rows) == 1


@given(SEQUENCES, st.integers(1, 30), st.none() | st.integers(1, 4))
def test_sharing_rows_changes_no_score(sequences, positions, prefill):
    """A model whose score of a token is a number that only these tokens before it, in this order, give."""

    def alone(tokens):
        return tuple(
            float(np.float32(hash((tuple(tokens[:end]), tokens[end])) % 10**6)) for end in range(1, len(tokens))
        )

    def batch(inputs, targets):
        held = inputs.size if prefill is None else len(inputs) * prefill
        assert len(inputs) == 1 or held <= positions
        values = np.zeros(targets.shape, np.float32)
        for row, end, column in np.ndindex(*targets.shape):
            values[row, end, column] = alone([*inputs[row, : end + 1].tolist(), int(targets[row, end, column])])[-1]
        return values

    assert score_rows(sequences, positions, prefill, 1, batch) == [alone(sequence) for sequence in sequences]


#: Questions with answers: what is asked in common, then several ways to go on; some are asked like others.
TREES = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.integers(5, 24),
        st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5), min_size=1, max_size=4),
    ),
    max_size=6,
)


@given(TREES, st.integers(1, 200))
def test_reading_a_common_beginning_once_changes_no_score(trees, positions):
    """Each row goes on from the tokens of the stem that it names, as a KV cache would make it."""
    sequences = [[seed] * length + answer for seed, length, answers in trees for answer in answers]

    def alone(tokens):
        return tuple(
            float(np.float32(hash((tuple(tokens[:end]), tokens[end])) % 10**6)) for end in range(1, len(tokens))
        )

    def values(inputs, targets, befores):
        found = np.zeros(targets.shape, np.float32)
        for row, end, column in np.ndindex(*targets.shape):
            tokens = [*befores[row], *inputs[row, : end + 1].tolist(), int(targets[row, end, column])]
            found[row, end, column] = alone(tokens)[-1]
        return found

    read = []

    def batch(inputs, targets):
        read.append(inputs.size)
        return values(inputs, targets, [()] * len(inputs))

    def branch(stems, stem_targets, owners, inputs, targets):
        read.append(stems.size + inputs.size)
        befores = [stems[owner].tolist() for owner in owners]
        return values(stems, stem_targets, [()] * len(stems)), values(inputs, targets, befores)

    assert score_rows(sequences, positions, None, 1, batch, branch) == [alone(sequence) for sequence in sequences]
    groups = shared_rows(sequences)
    rows = [len(sequences[group[0]]) - 1 for group in groups]
    stems = shared_stems(sequences, groups)
    assert sorted(row for stem in stems for row in stem.rows) == list(range(len(rows)))
    for stem in stems:
        starts = {tuple(sequences[groups[row][0]][: stem.length]) for row in stem.rows}
        assert len(starts) == 1
        assert stem.length == 0 or (len(stem.rows) > 1 and all(stem.length < rows[row] for row in stem.rows))
    saved = sum((len(stem.rows) - 1) * stem.length for stem in stems)
    assert saved >= 0
    if not read:
        assert not sequences


def test_four_answers_read_their_question_once():
    question = list(range(1, 31))
    sequences = [[*question, *answer] for answer in ([40, 41], [42, 43, 44], [45, 46], [47, 48, 49, 50])]
    read = []

    def branch(stems, stem_targets, owners, inputs, targets):
        read.append((stems.shape, inputs.shape, owners.tolist()))
        return np.zeros(stem_targets.shape, np.float32), np.zeros(targets.shape, np.float32)

    score_rows(sequences, 10**6, None, 1, lambda *_: pytest.fail("no row is read alone"), branch)
    assert read == [((1, 29), (4, 4), [0, 0, 0, 0])]


def test_end_ids_come_from_the_generation_config_first(tmp_path):
    assert eos_token_ids(tmp_path) == frozenset()
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    assert eos_token_ids(tmp_path) == {2}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert eos_token_ids(tmp_path) == {7, 9}
    for none in (None, -1, [], [-1], [None]):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": none}))
        assert eos_token_ids(tmp_path) == {2}
    for wrong in (True, [True], 2.0, "2", {"id": 2}):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": wrong}))
        with pytest.raises(EngineError, match="no token id"):
            eos_token_ids(tmp_path)


@pytest.mark.parametrize(
    ("precision", "reported"),
    # Bytes a block that the running pipeline reported for this geometry.
    [("fp32", 1474560), ("fp16", 737280), ("bf16", 737280), ("int8", 437760), ("int4", 506880)],
)
def test_kv_block_sizes_are_those_that_the_pipeline_reports(precision, reported):
    assert kv_cache.allocated_bytes(reported, precision) == kv_cache.block_bytes(GEOMETRY, precision)
    assert kv_cache.precision_found(GEOMETRY, precision, 64 * reported, 64) == precision


def test_kv_pool_of_another_size_is_found_out():
    assert kv_cache.precision_found(GEOMETRY, "int8", 64 * 737280, 64) == "fp16 or bf16"
    assert kv_cache.precision_found(GEOMETRY, "fp16", 64 * 437760, 64) == "int8"
    assert kv_cache.precision_found(GEOMETRY, "fp16", 64 * 737280, 32) == "fp32"
    assert "unknown" in kv_cache.precision_found(GEOMETRY, "fp16", 64 * 500000, 64)


@given(st.integers(1, 64), st.integers(1, 4096))
def test_blocks_hold_the_tokens_and_waste_less_than_one_block_each(sequences, tokens):
    blocks = kv_cache.blocks_needed(sequences, tokens)
    assert 0 <= blocks * 32 - sequences * tokens < sequences * 32


@pytest.mark.parametrize(
    ("stored", "record", "name"),
    [
        ({"f32": 100}, {}, "fp32"),
        ({"bf16": 1000, "f32": 5}, {}, "bf16"),
        ({"f16": 1000, "f32": 5}, {}, "fp16"),
        ({"u8": 1000, "f16": 20, "f32": 5}, {"awq": "False"}, "int8_wo"),
        ({"i4": 500, "u8": 280, "f16": 60}, {"awq": "False", "gptq": "False"}, "int4_wo"),
        ({"i4": 500, "u8": 280, "f16": 60}, {"awq": "True", "gptq": "False"}, "int4_awq"),
        ({"u4": 500, "u8": 280, "f16": 60}, {"awq": "False", "gptq": "True"}, "int4_gptq"),
        ({"u8": 100, "f32": 300}, {}, "mixed: f32 75%, u8 25%"),
    ],
)
def test_weights_are_named_by_what_is_stored(stored, record, name):
    assert Weights(stored, record).precision == name


def test_weights_of_equal_content_count_once(tmp_path):
    file = tmp_path / "model.xml"
    constant = '<layer type="Const"><data element_type="u8" offset="{}" size="64" shape="64"/></layer>'
    file.write_text(f"<net><layers>{constant.format(0)}{constant.format(0)}{constant.format(64)}</layers></net>")
    assert read_weights(file).bytes_by_type == {"u8": 128}
    file.write_text("<net><layers/></net>")
    with pytest.raises(EngineError, match="no weights"):
        read_weights(file)


@pytest.mark.parametrize(
    ("flags", "precision", "activation", "kv"),
    [
        ({"avx512_bf16"}, "fp32", "fp32", "fp32"),
        ({"avx512_bf16"}, "bf16", "bf16", "fp16"),
        ({"avx512_bf16"}, "fp16", "bf16", "fp16"),
        ({"avx512_fp16", "avx512_bf16"}, "fp16", "fp16", "fp16"),
        ({"avx512_bf16"}, "int4_awq", "bf16", "int8"),
        ({"avx2"}, "int8_wo", "fp32", "int8"),
        ({"avx2"}, "fp16", "fp32", "fp16"),
    ],
)
def test_types_that_auto_takes(monkeypatch, flags, precision, activation, kv):
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags))
    spec = EngineSpec("m", "openvino", precision)
    assert precisions.activation_precision(spec, RuntimeSpec()) == activation
    assert precisions.kv_precision(spec, RuntimeSpec(), activation) == kv


def test_activation_that_the_cpu_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(CapabilityError, match="does not compute in bf16"):
        precisions.activation_precision(
            EngineSpec("m", "openvino", "int8_wo"), RuntimeSpec(activation_precision="bf16")
        )


def test_rows_that_decode_step_by_step_keep_within_their_cache():
    seen = []

    def batch(inputs, targets):
        seen.append(inputs.shape)
        return np.zeros(targets.shape, np.float32)

    score_rows([[token] * 11 for token in range(1, 8)], 10**6, 4, STEPPED_CACHE // 20, batch)
    assert seen == [(2, 10), (2, 10), (2, 10), (1, 10)]


@pytest.mark.parametrize("line", ['{"text": null}', '{"text": ["a"]}', "[]", "{}", "{"])
def test_calibration_passages_that_are_no_texts_are_refused(tmp_path, line):
    file = tmp_path / "passages.jsonl"
    file.write_text(f'{{"text": "a passage"}}\n{line}\n')
    with pytest.raises(EngineError, match=r"calibration passages .* cannot be read"):
        read_passages(QuantizationSpec(calibration=str(file)))


def test_as_many_calibration_passages_as_are_asked(tmp_path):
    file = tmp_path / "passages.jsonl"
    file.write_text("\n".join(f'{{"text": "passage {number}"}}' for number in range(4)))
    found = read_passages(QuantizationSpec(calibration=str(file), calibration_samples=2))
    assert found == ["passage 0", "passage 1"]
