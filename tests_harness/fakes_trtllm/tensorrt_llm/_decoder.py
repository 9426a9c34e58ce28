"""Decoding behind the fake: a Transformers model on the CPU, stepped by one thread with requests joining in flight."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from datetime import timedelta
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from tensorrt_llm._strict import VERSION, Strict, record, use


def model_of(config: Any, state: dict[str, Any]) -> Any:
    """A float32 model with the given weights."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.load_state_dict(state)
    return model


class Request(Strict):
    """A request and its result: iterable in streaming mode, from a thread or from an event loop."""

    _thing = "RequestOutput"

    def __init__(self, prompt: list[int], params: dict[str, Any], streaming: bool) -> None:
        output = record(
            "CompletionOutput",
            token_ids=[],
            finish_reason=None,
            stop_reason=None,
            generation_logits=None,
            request_perf_metrics=None,
        )
        super().__init__(outputs=[output], context_logits=None, finished=False)
        for name, value in {
            "_prompt": prompt,
            "_params": params,
            "_streaming": streaming,
            "_cache": None,
            "_made": 0,
            "_undelivered": [],
            "_aborted": False,
            "_arrival": time.monotonic(),
            "_first": None,
        }.items():
            object.__setattr__(self, name, value)
        try:
            loop = asyncio.get_running_loop()
            arrived: Any = asyncio.Queue()
            self._put = lambda item: loop.call_soon_threadsafe(arrived.put_nowait, item)
        except RuntimeError:
            arrived = queue.Queue()
            self._put = arrived.put
        self._arrived = arrived

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _take(self, item: dict[str, Any]) -> None:
        if "error" in item:
            raise RuntimeError(item["error"])
        output = self._values["outputs"][0]._values
        output["token_ids"].extend(item.pop("tokens"))
        self._values["finished"] = item.pop("finished")
        self._values["context_logits"] = item.pop("context_logits", self._values["context_logits"])
        output.update(item)

    def __iter__(self) -> Request:
        return self

    def __next__(self) -> Request:
        if self._values["finished"]:
            raise StopIteration
        self._take(self._arrived.get())
        return self

    def __aiter__(self) -> Request:
        return self

    async def __anext__(self) -> Request:
        if self._values["finished"]:
            raise StopAsyncIteration
        self._take(await self._arrived.get())
        return self

    def result(self) -> Request:
        use("RequestOutput", "method", "result")
        while not self._values["finished"]:
            self._take(self._arrived.get())
        return self

    def abort(self) -> None:
        use("RequestOutput", "method", "abort")
        self._aborted = True


class Decoder:
    """One thread that gives every running request its next token, and admits waiting ones in between.

    Args:
        model: Transformers model.
        chunk: tokens that are delivered together (speculation, or a stream interval).
        withhold_end: keep the end token out of the answer, as the engine backend's sampler does.
        blocks: KV blocks, of ``block`` tokens each.
        reuse: whether prefix blocks are reused; context logits then lack the reused rows.
    """

    def __init__(self, model: Any, *, chunk: int, withhold_end: bool, blocks: int, block: int, reuse: bool) -> None:
        self.model = model
        self.chunk, self.withhold_end, self.reuse = chunk, withhold_end, reuse
        self.blocks, self.block = blocks, block
        self.stats: deque[dict[str, Any]] = deque(maxlen=1000)
        self.waiting: queue.Queue[Request | None] = queue.Queue()
        self.seen: set[tuple[int, ...]] = set()
        self.idle = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def wait_for_stats(self) -> None:
        """As the runtime does: a step's come a moment after its tokens, and who reads them waits for 2 s at most."""
        deadline = time.monotonic() + 2
        while not self.stats and not self.idle.wait(0.005) and time.monotonic() < deadline:
            pass

    def stop(self) -> None:
        self.waiting.put(None)
        self.thread.join()

    def _loop(self) -> None:
        running: list[Request] = []
        while True:
            if not running:
                self.idle.set()
            fresh = self._admit(block=not running)
            self.idle.clear()
            if None in fresh:
                return
            running += fresh
            for request in list(running):
                try:
                    done = request._aborted or self._step(request)
                except Exception as error:  # delivered to whoever waits, as the runtime does
                    request._put({"error": repr(error)})
                    done = True
                if done:
                    running.remove(request)
            used = sum(-(-(len(request._prompt) + request._made) // self.block) for request in running)
            if used > self.blocks:
                raise MemoryError(f"{used} blocks used of {self.blocks}")
            self.stats.append({"used": used})

    def _admit(self, block: bool) -> list[Any]:
        fresh = []
        try:
            fresh.append(self.waiting.get(block=block))
            while True:
                fresh.append(self.waiting.get_nowait())
        except queue.Empty:
            return fresh

    @torch.inference_mode()
    def _step(self, request: Request) -> bool:
        params = request._params
        item: dict[str, Any] = {}
        if request._cache is None:
            request._cache = DynamicCache(config=self.model.config)
            tokens = request._prompt
        else:
            tokens = [request._last]
        logits = self.model(input_ids=torch.tensor([tokens]), past_key_values=request._cache).logits[0]
        if request._made == 0:
            request._first = time.monotonic()
            if params["return_context_logits"]:
                reused = tuple(tokens) in self.seen and self.reuse
                item["context_logits"] = logits[self.block :] if reused else logits
            self.seen.add(tuple(tokens))
        token = int(logits[-1].argmax())
        if params["return_generation_logits"]:
            item["generation_logits"] = logits[-1:].unsqueeze(0)
        request._last, request._made = token, request._made + 1
        stopped, shown = self._ends(token, params)
        finished = stopped or request._made >= params["max_tokens"]
        request._undelivered += [token] if shown else []
        if finished or (request._streaming and len(request._undelivered) >= self.chunk):
            item |= {"tokens": request._undelivered, "finished": finished}
            request._undelivered = []
            if finished:
                item["finish_reason"] = "stop" if stopped else "length"
                item["stop_reason"] = token if stopped and token != params["end_id"] else None
                if params["return_perf_metrics"]:
                    item["request_perf_metrics"] = self._metrics(request)
            request._put(item)
        return finished

    def _ends(self, token: int, params: dict[str, Any]) -> tuple[bool, bool]:
        """Whether a token ends the answer, and whether it is shown."""
        if not params["ignore_eos"] and token == params["end_id"]:
            return True, not self.withhold_end
        if token in (params["stop_token_ids"] or ()):
            return True, params["include_stop_str_in_output"]
        return False, True

    def _metrics(self, request: Request) -> Any:
        timing = record(
            "TimingMetrics",
            arrival_time=timedelta(seconds=request._arrival),
            first_token_time=timedelta(seconds=request._first),
        )
        speculative = None
        if self.chunk > 1:
            speculative = record(
                "SpeculativeMetrics",
                total_draft_tokens=2 * request._made,
                total_accepted_draft_tokens=request._made // 2,
            )
        return record("RequestPerfMetrics", timing_metrics=timing, speculative_decoding=speculative)


JSON_STATS = VERSION.startswith(("1.0", "1.1"))
