"""What every backend must do. A backend's tests subclass ``Conformance`` and say which engine it is about.

It takes the fixtures ``workshop`` and ``shared_engine`` of ``enginegate.testing.fixtures``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest

from enginegate.core.errors import EngineError
from enginegate.core.specs import SamplingParams
from enginegate.engines.answers import checked_distributions
from enginegate.engines.base import Arrival, Engine, ServingEngine
from enginegate.engines.effective import check_effective
from enginegate.engines.registry import check_precision, load_backend
from enginegate.engines.serving import cannot_serve, checked_events
from enginegate.testing.fixtures import VOCABULARY, Workshop


def prompts(count: int, length: int, seed: int = 0) -> list[list[int]]:
    """Random prompts of the tiny model's tokens, none of them a control token."""
    ids = np.random.default_rng(seed).integers(3, VOCABULARY, size=(count, length))
    return cast("list[list[int]]", ids.tolist())


class Conformance:
    """Subclass as ``Test…`` and say which engine it is about.

    Attributes:
        backend: the name by which the backend is found.
        precision: one that it has on the machine at hand.
        exact: whether all arithmetic is fp32, so that a batch must give the very tokens of its single prompts.
    """

    backend: str
    precision: str
    exact: bool

    @pytest.fixture
    def engine(self, shared_engine: Callable[[str, str], Engine]) -> Engine:
        """The engine, loaded once for all tests."""
        return shared_engine(self.backend, self.precision)

    def end_with(self, engine: Engine, token: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make ``token`` the engine's only end of an answer; override it where the engine keeps that elsewhere."""
        monkeypatch.setattr(engine, "_eos", frozenset([token]))

    def test_fixed_length_is_honoured_and_every_token_has_its_time(self, engine: Engine) -> None:
        for generation in engine.generate(prompts(3, 12), SamplingParams(20)):
            assert len(generation.token_ids) == len(generation.token_times) == 20
            assert generation.finish_reason == "length"
            assert generation.token_times[0] > 0
            assert list(generation.token_times) == sorted(generation.token_times)
            assert len(set(generation.token_times)) > 10, "times are not spread over one total"

    def test_same_prompt_twice_gives_same_tokens(self, engine: Engine) -> None:
        first, second = (engine.generate(prompts(2, 10), SamplingParams(16)) for _ in range(2))
        assert [answer.token_ids for answer in first] == [answer.token_ids for answer in second]

    @pytest.mark.parametrize("lengths", [(16, 16, 16), (3, 40, 17, 9)])
    def test_batch_answers_as_single_prompts_do(self, engine: Engine, lengths: Sequence[int]) -> None:
        if not self.exact:
            pytest.skip("below fp32 a batch may round differently from a single prompt")
        batch = [prompts(1, length, seed)[0] for seed, length in enumerate(lengths)]
        together = engine.generate(batch, SamplingParams(16))
        alone = [engine.generate([prompt], SamplingParams(16))[0] for prompt in batch]
        assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]

    def test_full_batch_of_longest_prompts_fits(self, engine: Engine) -> None:
        spec = engine.spec
        answers = engine.generate(prompts(spec.max_batch_size, spec.max_input_len), SamplingParams(spec.max_output_len))
        assert [len(answer.token_ids) for answer in answers] == [spec.max_output_len] * spec.max_batch_size

    def test_stream_yields_what_generate_returns(self, engine: Engine) -> None:
        prompt = prompts(1, 12)[0]
        events = list(engine.stream(prompt, SamplingParams(12)))
        assert tuple(event.token_id for event in events) == engine.generate([prompt], SamplingParams(12))[0].token_ids
        assert [event.time for event in events] == sorted(event.time for event in events)

    def test_dropped_stream_leaves_the_engine_usable(self, engine: Engine) -> None:
        prompt = prompts(1, 12)[0]
        expected = engine.generate([prompt], SamplingParams(12))[0].token_ids
        stream = engine.stream(prompt, SamplingParams(12))
        assert next(stream).token_id == expected[0]
        del stream
        assert engine.generate([prompt], SamplingParams(12))[0].token_ids == expected

    def test_stops_at_end_of_sequence(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = prompts(2, 12)
        free = engine.generate(batch, SamplingParams(12))
        # Make the first answer's fifth token the end: a random model cannot be asked to end where one would like.
        end = free[0].token_ids[4]
        self.end_with(engine, end, monkeypatch)
        for answer, full in zip(engine.generate(batch, SamplingParams(12, ignore_eos=False)), free, strict=True):
            expected = full.token_ids[: full.token_ids.index(end) + 1] if end in full.token_ids else full.token_ids
            assert answer.token_ids == expected
            assert len(answer.token_times) == len(expected)
            assert answer.finish_reason == ("stop" if end in full.token_ids else "length")
        assert [event.token_id for event in engine.stream(batch[0], SamplingParams(12, ignore_eos=False))][-1] == end

    @pytest.mark.parametrize(
        ("batch", "tokens", "said"),
        [
            ([], 4, "batch is empty"),
            ([[]], 4, "prompt 0 is empty"),
            ([[5]] * 5, 4, "batch of 5"),
            ([[5] * 49], 4, "49 tokens"),
            ([[5]], 33, "33 tokens"),
            ([[5]], 0, "0 tokens"),
            ([[5, VOCABULARY]], 4, f"token id {VOCABULARY}"),
            ([[5], [-1]], 4, "token id -1"),
        ],
    )
    def test_work_it_was_not_made_for_is_refused(
        self, engine: Engine, batch: list[list[int]], tokens: int, said: str
    ) -> None:
        with pytest.raises(EngineError, match=said):
            engine.generate(batch, SamplingParams(tokens))

    def test_requests_that_arrive_over_time_are_answered_as_a_batch_is(self, engine: Engine) -> None:
        server, count = self.server(engine), 2 * engine.spec.max_batch_size
        batch = [prompts(1, 4 + 3 * number, number)[0] for number in range(count)]
        arrivals = [Arrival(tuple(prompt), SamplingParams(12), 0.005 * number) for number, prompt in enumerate(batch)]
        events = list(checked_events(engine.spec.id, server.submit(arrivals), arrivals, VOCABULARY))
        sent = {event.request: event.time for event in events if event.kind == "sent"}
        assert list(sent) == list(range(count))
        assert all(sent[number] >= arrival.time for number, arrival in enumerate(arrivals))
        assert {event.reason for event in events if event.kind == "finished"} == {"length"}
        assert events[-1].in_flight in (0, None)
        if self.exact:
            for number, prompt in enumerate(batch):
                tokens = [token for event in events if event.request == number for token in event.token_ids]
                assert tuple(tokens) == engine.generate([prompt], SamplingParams(12))[0].token_ids

    def test_dropped_run_of_requests_leaves_the_engine_usable(self, engine: Engine) -> None:
        prompt = prompts(1, 12)[0]
        expected = engine.generate([prompt], SamplingParams(12))[0].token_ids
        run = self.server(engine).submit([Arrival(tuple(prompt), SamplingParams(12), time) for time in (0.0, 0.0, 1.0)])
        assert next(event for event in run if event.kind == "tokens").token_ids[0] == expected[0]
        del run
        assert engine.generate([prompt], SamplingParams(12))[0].token_ids == expected

    @pytest.mark.parametrize(
        ("arrivals", "said"),
        [
            ([], "no request arrives"),
            ([Arrival((5,), SamplingParams(4), -1.0)], "request 0 arrives at -1 s"),
            ([Arrival((5,), SamplingParams(4), time) for time in (1.0, 0.5)], "request 1 arrives at 0.5 s, after"),
            ([Arrival((5,), SamplingParams(4), float("nan"))], "request 0 arrives at nan"),
            ([Arrival((5,) * 49, SamplingParams(4), 0.0)], "request 0 of 1: prompt 0 has 49 tokens"),
            ([Arrival((5,), SamplingParams(33), 0.0)], "33 tokens"),
        ],
    )
    def test_arrivals_that_cannot_be_served_are_refused(
        self, engine: Engine, arrivals: list[Arrival], said: str
    ) -> None:
        with pytest.raises(EngineError, match=said):
            list(self.server(engine).submit(arrivals))

    def server(self, engine: Engine) -> ServingEngine:
        """The engine as one that serves; skips where its backend cannot."""
        if not isinstance(engine, ServingEngine):
            pytest.skip(cannot_serve(engine.spec).problem)
        return engine

    @pytest.mark.parametrize(
        ("sequence", "prefill"),
        [([5], None), ([5] * 81, None), ([5, 6], 0), ([5, VOCABULARY], None), ([-1, 5, 6], 1)],
    )
    def test_sequences_that_cannot_be_scored_are_refused(
        self, engine: Engine, sequence: list[int], prefill: int | None
    ) -> None:
        with pytest.raises(EngineError):
            engine.score([sequence], prefill=prefill)

    def test_scores_of_a_batch_are_those_of_its_sequences(self, engine: Engine) -> None:
        sequences = [prompts(1, length, seed)[0] for seed, length in enumerate((5, 31, 12, 31, 2))]
        question = sequences[1]  # and four answers to it, one of them longer, and one sequence twice
        sequences += [[*question, 7], [*question, 8], [*question, 9, 10], [*question, 9], question]
        tolerance = 1e-4 if self.exact else 0.35
        for prefill in (None, 4):
            together = engine.score(sequences, prefill=prefill)
            for sequence, scores in zip(sequences, together, strict=True):
                assert len(scores) == len(sequence) - 1
                np.testing.assert_allclose(scores, engine.score([sequence], prefill=prefill)[0], atol=tolerance)

    def test_decode_step_scores_are_near_those_of_one_pass(self, engine: Engine) -> None:
        sequences = prompts(3, 40)
        one_pass, by_steps = (np.array(engine.score(sequences, prefill=prefill)) for prefill in (None, 8))
        assert np.abs(one_pass - by_steps).max() < (1e-3 if self.exact else 1.5)

    def test_distributions_are_of_the_scores_that_it_gives(self, engine: Engine) -> None:
        if not hasattr(engine, "distributions"):
            pytest.skip("this backend gives no distributions")
        sequences = [prompts(1, length, seed)[0] for seed, length in enumerate((5, 31, 12))]
        for prefill in (None, 4):
            found = engine.distributions(sequences, cells=8, prefill=prefill)
            checked_distributions(engine.spec.id, found, sequences, VOCABULARY)
            for each, scores in zip(found, engine.score(sequences, prefill=prefill), strict=True):
                np.testing.assert_allclose(each.scores, scores, atol=1e-4 if self.exact else 0.35)
                highest = np.take_along_axis(each.ids, each.values.argmax(1)[:, None], 1)[:, 0]
                assert (each.likeliest == highest).mean() > (0.99 if self.exact else 0.5)
            again = engine.distributions(sequences, cells=[each.ids for each in found], prefill=prefill)
            for one, two in zip(found, again, strict=True):
                np.testing.assert_allclose(np.sort(one.values, 1), np.sort(two.values, 1), atol=1e-5)

    def test_scores_agree_with_the_tokens_it_chooses(self, engine: Engine) -> None:
        prompt = prompts(1, 12)[0]
        chosen = engine.generate([prompt], SamplingParams(1))[0].token_ids[0]
        rivals = [[*prompt, token] for token in (chosen, *range(3, 40))]
        scores = [values[-1] for values in engine.score(rivals)]
        assert scores[0] >= max(scores) - (1e-5 if self.exact else 0.2)

    def test_effective_is_what_was_asked(self, engine: Engine) -> None:
        found = engine.effective()
        check_effective(engine.spec, engine.runtime, found)
        assert found.precision == self.precision
        assert found.max_length == engine.spec.max_input_len + engine.spec.max_output_len

    def test_memory_is_known(self, engine: Engine) -> None:
        use = engine.memory()
        assert use.weights is not None
        assert use.weights > 50_000
        assert use.kv_cache_predicted is not None
        assert use.kv_cache_predicted > 0

    def test_backend_says_it_can(self) -> None:
        check_precision(load_backend(self.backend), self.precision)

    def test_closed_engine_refuses_and_closes_again(self, workshop: Workshop) -> None:
        engine = workshop.load(self.backend, self.precision)
        engine.generate(prompts(1, 4), SamplingParams(2))
        engine.close()
        engine.close()
        for call in (
            lambda: engine.generate(prompts(1, 4), SamplingParams(2)),
            lambda: list(engine.stream(prompts(1, 4)[0], SamplingParams(2))),
            lambda: engine.score([[5, 6]]),
            lambda: engine.distributions([[5, 6]], cells=2) if hasattr(engine, "distributions") else engine.memory(),
            engine.memory,
            engine.effective,
        ):
            with pytest.raises(EngineError, match="closed"):
                call()
