"""vLLM's engine as it is stepped, over a stand-in that hands out what its engine core does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Arrival
from enginegate.engines.serving import checked_events
from enginegate.engines.vllm.engine import VllmEngine
from enginegate.engines.vllm.loop import CoreLoop


class Reason:
    """As vLLM's FinishReason, which is a number whose text is its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name


class Core:
    """Answers each request with its length, two at a time, under names of its own."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.priorities: list[int] = []
        self.aborted: list[str] = []
        self.engine_core = SimpleNamespace(get_output=self.get_output)

    def add_request(self, name, prompt, sampling, priority=0):
        inner = f"{name}-suffix"
        self.left[inner] = sampling.max_tokens
        self.priorities.append(priority)
        self.first = SimpleNamespace(num_prompt_tokens=len(prompt["prompt_token_ids"]), num_cached_tokens=1)
        return inner

    def get_output(self):
        outputs = []
        for name in list(self.left)[:2]:
            self.left[name] -= 1
            ended = self.left[name] == 0
            outputs.append(
                SimpleNamespace(
                    request_id=name,
                    new_token_ids=[7],
                    finish_reason=Reason("length") if ended else None,
                    prefill_stats=self.first if ended else None,
                )
            )
            if ended:
                del self.left[name]
        return SimpleNamespace(outputs=outputs)

    def step(self):
        self.engine_core.get_output()

    def has_unfinished_requests(self):
        return bool(self.left)

    def get_num_unfinished_requests(self):
        return len(self.left)

    def abort_request(self, names, internal):
        assert internal
        self.aborted += names
        for name in names:
            self.left.pop(name, None)


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def engine(core) -> VllmEngine:
    kind = SimpleNamespace(FINAL_ONLY="final")
    vllm = SimpleNamespace(
        SamplingParams=lambda **given: SimpleNamespace(**given),
        sampling_params=SimpleNamespace(RequestOutputKind=kind),
    )
    engine = VllmEngine.__new__(VllmEngine)
    engine.spec = EngineSpec("m", "vllm", "fp16", max_batch_size=2, max_input_len=8, max_output_len=8)
    engine.runtime = RuntimeSpec()
    engine._eos, engine._vocabulary = frozenset([2]), 10
    engine._llm = SimpleNamespace(llm_engine=core)
    engine._core_loop = CoreLoop(vllm, engine._llm)
    return engine


def test_requests_are_handed_in_as_they_arrive_with_their_priorities(engine, core):
    arrivals = [Arrival((3, 4), SamplingParams(2 + number), 0.001 * number, priority=number) for number in range(4)]
    events = list(checked_events("vllm", engine.submit(arrivals), arrivals, 10))
    assert core.priorities == [0, 1, 2, 3]
    assert [event.request for event in events if event.kind == "finished"] == [0, 1, 2, 3]
    assert events[-1].in_flight == 0
    assert engine._core_loop.prefix_cache() == {"prompt_tokens": 8, "found": 4}


def test_a_batch_and_a_stream_go_through_the_same_loop(engine, core):
    answers = engine.generate([[3], [4]], SamplingParams(3))
    assert [answer.token_ids for answer in answers] == [(7, 7, 7)] * 2
    stream = engine.stream([3], SamplingParams(5))
    next(stream)
    stream.close()
    assert core.left == {}
    assert len(core.aborted) == 1


@pytest.mark.parametrize(
    ("runtime", "line"),
    [
        (RuntimeSpec(), ("fcfs", None, False)),
        (RuntimeSpec(queue_order="priority"), ("fcfs", None, False)),
        (RuntimeSpec(queue_order="sjf"), ("sjf", 2, False)),
        (RuntimeSpec(scheduler_policy="static"), ("fcfs", 2, True)),
    ],
)
def test_what_vllms_own_scheduler_has_not_waits_in_front_of_it(engine, runtime, line):
    engine.runtime = runtime
    found = engine._line()
    assert (found.order, found.batch, found.static) == line
