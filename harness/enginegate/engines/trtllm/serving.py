"""Requests that arrive over time, through ``generate_async``.

TensorRT-LLM steps itself, in threads and processes of its own; here is one event loop, which hands in what has arrived
and notes what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any

from enginegate.core.errors import EngineError
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Arrival, Generation, ServingEvent
from enginegate.engines.pace import PacerProcess
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.timing import quiet_process

#: Hands a prompt in, and gives the runtime's request.
Submit = Callable[[list[int], SamplingParams], Any]
#: The whole answer of a request that is done, from it, the times of its tokens, and what was asked.
Finish = Callable[[Any, list[float], SamplingParams], Generation]


async def served(arrivals: Sequence[Arrival], submit: Submit, finish: Finish) -> list[ServingEvent]:
    """Serve requests; gives all events, in the order of their times, when the last is answered."""
    events: list[ServingEvent] = []
    requests: list[Any] = []
    tasks: list[asyncio.Task[None]] = []
    everybody_is_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(index: int, request: AsyncIterable[Any]) -> None:
        params, times = arrivals[index].params, list[float]()
        async for step in request:
            now, tokens = pace.now(), step.outputs[0].token_ids
            if fresh := tuple(tokens[len(times) :]):
                times.extend([now] * len(fresh))
                events.append(ServingEvent(index, "tokens", now, fresh))
            beat()
        known, now = len(times), pace.now()
        try:
            found = finish(request, times, params)
        except EngineError:
            events.append(ServingEvent(index, "finished", now, reason="error"))
            return
        if withheld := found.token_ids[known:]:
            events.append(ServingEvent(index, "tokens", now, withheld))
        events.append(ServingEvent(index, "finished", now, reason=found.finish_reason))

    def take() -> None:
        try:
            for index, at in pace.arrived():
                events.append(ServingEvent(index, "sent", at))
                requests.append(submit(list(arrivals[index].prompt), arrivals[index].params))
                tasks.append(asyncio.ensure_future(answer(index, requests[-1])))
        except EngineError as error:
            everybody_is_in.set_exception(error)
        if len(tasks) == len(arrivals) and not everybody_is_in.done():
            everybody_is_in.set_result(None)
        if everybody_is_in.done():
            asyncio.get_running_loop().remove_reader(pace.fileno())

    with PacerProcess([each.time for each in arrivals]) as pace, quiet_process():
        asyncio.get_running_loop().add_reader(pace.fileno(), take)
        try:
            await everybody_is_in
            await asyncio.gather(*tasks)
        finally:
            asyncio.get_running_loop().remove_reader(pace.fileno())
            for request in requests:
                if not request.finished:
                    request.abort()
    return sorted(events, key=lambda event: event.time)
