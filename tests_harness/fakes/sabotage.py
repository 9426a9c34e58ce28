"""Engines that misbehave in one way each, wrapped around one that does not."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import time
from typing import Any

import enginegate_fake
import numpy as np


class Wrapped:
    """The engine as it is; subclasses change one thing."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Slowed(Wrapped):
    """Each token takes ``factor`` times as long."""

    factor = 1.12

    def generate(self, prompts, params):
        generations = self._engine.generate(prompts, params)
        longest = max(generation.token_times[-1] for generation in generations)
        enginegate_fake.CLOCK.sleep((self.factor - 1) * longest)
        return [
            dataclasses.replace(answer, token_times=tuple(self.factor * time for time in answer.token_times))
            for answer in generations
        ]


class Leaving(Wrapped):
    """Answers a while, then its library falls over for good."""

    answers = 5

    def generate(self, prompts, params):
        if self.answers == 0:
            raise RuntimeError("CUDA error: out of luck")
        self.answers -= 1
        return self._engine.generate(prompts, params)


class NotLoading(Wrapped):
    """Its library falls over while it loads."""

    def __init__(self, engine: Any) -> None:
        raise RuntimeError("libfake.so: no such symbol")


class Mute(Wrapped):
    """Says what it is once, when it is loaded; later its library falls over."""

    asked = 0

    def effective(self):
        self.asked += 1
        if self.asked > 1:
            raise RuntimeError("libfake.so: gone")
        return self._engine.effective()


class AtOnce(Wrapped):
    """All tokens come with the last one, as from an engine that does not stream."""

    def generate(self, prompts, params):
        return [
            dataclasses.replace(answer, token_times=answer.token_times[-1:] * len(answer.token_ids))
            for answer in self._engine.generate(prompts, params)
        ]


class OneTokenLess(Wrapped):
    def generate(self, prompts, params):
        return [
            dataclasses.replace(answer, token_ids=answer.token_ids[:-1], token_times=answer.token_times[:-1])
            for answer in self._engine.generate(prompts, params)
        ]


class Beyond(Wrapped):
    """Its last token is none of the model's vocabulary."""

    def generate(self, prompts, params):
        return [
            dataclasses.replace(answer, token_ids=(*answer.token_ids[:-1], 259))
            for answer in self._engine.generate(prompts, params)
        ]


class NotScoring(Wrapped):
    """Its library falls over when it is to score."""

    def score(self, sequences, *, prefill=None):
        raise RuntimeError("libfake.so: no logits")

    def distributions(self, sequences, *, cells, prefill=None):
        raise RuntimeError("libfake.so: no logits")


class Upside(Wrapped):
    """Gives likelihoods with the wrong sign."""

    def score(self, sequences, *, prefill=None):
        return [[-value for value in row] for row in self._engine.score(sequences, prefill=prefill)]

    def distributions(self, sequences, *, cells, prefill=None):
        found = self._engine.distributions(sequences, cells=cells, prefill=prefill)
        return [dataclasses.replace(each, scores=-each.scores) for each in found]


class Unsure(Wrapped):
    """It finds everything half as likely as it was, and is no slower."""

    def score(self, sequences, *, prefill=None):
        return [tuple(2 * each for each in row) for row in self._engine.score(sequences, prefill=prefill)]

    def distributions(self, sequences, *, cells, prefill=None):
        found = self._engine.distributions(sequences, cells=cells, prefill=prefill)
        return [
            dataclasses.replace(
                each,
                scores=2 * each.scores,
                values=2 * each.values,
                rest=np.log(1.0 - np.exp(2 * each.values).sum(1)),
            )
            for each in found
        ]


class Timed(Wrapped):
    """The first token comes at an impossible time."""

    first = math.nan

    def generate(self, prompts, params):
        return [
            dataclasses.replace(answer, token_times=(self.first, *answer.token_times[1:]))
            for answer in self._engine.generate(prompts, params)
        ]


class ZeroTimed(Timed):
    first = 0.0


class NegativeTimed(Timed):
    first = -0.001


class Disguised(Wrapped):
    """Runs in another precision than its name says, and admits it when asked."""

    def effective(self):
        return dataclasses.replace(self._engine.effective(), precision="int4_wo")


class Swapped(enginegate_fake.FakeEngine):
    """Has the weights of another precision than its name says, and lies about it."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine.spec, engine.runtime, {"precision": "int4_wo", "bytes": 1, "resident": 1})

    def effective(self):
        return dataclasses.replace(super().effective(), precision=self.spec.precision)


class Interrupted(Wrapped):
    """The user presses Ctrl-C while it answers for the fifth time."""

    calls = 0

    def strike(self):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell has it ignored
        os.kill(os.getpid(), signal.SIGINT)

    def generate(self, prompts, params):
        self.calls += 1
        if self.calls == 5:
            self.strike()
        return self._engine.generate(prompts, params)


class Terminated(Interrupted):
    """Its job is cancelled."""

    def strike(self):
        os.kill(os.getpid(), signal.SIGTERM)


class Cancelled(Interrupted):
    """The whole session's job is cancelled, of which it runs in a worker."""

    def strike(self):
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)


class Deadly(Wrapped):
    """Takes its process with it when it scores."""

    def score(self, *_, **__):
        os._exit(9)


class Unclosable(Wrapped):
    def close(self):
        raise RuntimeError("it will not close")


class Silent(Wrapped):
    """Ends every answer at once; what it finds likely, and its speed, are as before."""

    def answer(self, answer):
        return dataclasses.replace(answer, token_ids=(), token_times=())

    def generate(self, prompts, params):
        answers = self._engine.generate(prompts, params)
        return answers if params.ignore_eos else [self.answer(each) for each in answers]


class Stuck(Silent):
    """Gives its first token again and again."""

    def answer(self, answer):
        return dataclasses.replace(answer, token_ids=answer.token_ids[:1] * len(answer.token_ids))


class Habit(Wrapped):
    """Serves in a way that it was not asked to; see ``fake_serving.FakeLoop``."""

    habit = ""

    def __init__(self, engine):
        super().__init__(engine)
        engine.habits.add(self.habit)


class PrefixCacheLeftOn(Habit):
    habit = "caches"


class Starving(Habit):
    habit = "newest"


class CarelessDraft(Habit):
    habit = "carelessly"


class Unchunked(Habit):
    habit = "whole"


class LaggingGenerator(Wrapped):
    """What hands requests in is 50 ms late with each."""

    def submit(self, arrivals):
        events = list(self._engine.submit(arrivals))
        late = [dataclasses.replace(each, time=each.time + 0.05) for each in events]
        yield from late


class Miscounting(Wrapped):
    """Says that twice as many requests are in flight as are."""

    def submit(self, arrivals):
        for event in self._engine.submit(arrivals):
            yield dataclasses.replace(event, in_flight=None if event.in_flight is None else 2 * event.in_flight)


class HoldingEndsBack(Wrapped):
    """Tells of an end long after the last token."""

    def submit(self, arrivals):
        events = [
            dataclasses.replace(each, time=each.time + 0.02) if each.kind == "finished" else each
            for each in self._engine.submit(arrivals)
        ]
        yield from sorted(events, key=lambda each: each.time)


class OneAtATime(Wrapped):
    """Its batches hold one request."""

    def submit(self, arrivals):
        self._engine.spec = dataclasses.replace(self._engine.spec, max_batch_size=1)
        return self._engine.submit(arrivals)


class DyingUnderLoad(Wrapped):
    """Its library falls over with half of the requests answered."""

    def submit(self, arrivals):
        for count, event in enumerate(self._engine.submit(arrivals)):
            if count > len(arrivals):
                raise RuntimeError("libfake.so: gone")
            yield event


class NotServing(Wrapped):
    """Answers whole batches only."""

    def __getattr__(self, name):
        if name == "submit":
            raise AttributeError(name)
        return super().__getattr__(name)
