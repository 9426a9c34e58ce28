"""A word tokenizer and an engine whose answers and likelihoods are known."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import Effective, Generation, MemoryUse, TokenEvent

END = 0
Tokens = tuple[int, ...]


class WordTokenizer:
    """Words with one leading white-space character, single spaces and signs; ids from the piece's own bytes."""

    eos_ids = frozenset({END})
    opening = ()
    bos_id: int | None = None
    name = "words"
    template = "one line a message"

    def __init__(self) -> None:
        self.pieces: dict[int, str] = {END: ""}

    def encode(self, text: str) -> list[int]:
        ids = []
        for piece in re.findall(r"\s?\w+|\s|[^\w\s]", text):
            token = 1 + zlib.crc32(piece.encode()) % 1_000_003
            assert self.pieces.setdefault(token, piece) == piece, "two pieces share an id"
            ids.append(token)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[token] for token in ids)

    def chat(self, user_text: str) -> list[int]:
        return self.encode(f"user: {user_text}\nassistant:")

    def conversation(self, messages: Sequence[Mapping[str, str]], answer_next: bool = True) -> str:
        lines = [f"{message['role']}: {message['content']}" for message in messages]
        return "\n".join([*lines, *(["assistant:"] if answer_next else [])])


def hashed_logprob(before: Tokens, token: int) -> float:
    """An arbitrary but fixed log-probability of ``token`` after ``before``."""
    return -0.01 - zlib.crc32(repr((before, token)).encode()) % 100_000 / 7_000


class FakeEngine:
    """Answers by ``next_token(tokens so far, batch size)`` and scores by ``logprob(tokens before, token)``."""

    def __init__(
        self,
        next_token: Callable[[Tokens, int], int] = lambda _tokens, _batch_size: END,
        logprob: Callable[[Tokens, int], float] = hashed_logprob,
        **limits: int,
    ) -> None:
        self.spec = EngineSpec("toy", "fake", "fp32", **limits)
        self.runtime = RuntimeSpec()
        self.next_token = next_token
        self.logprob = logprob
        self.generated: list[list[Tokens]] = []
        self.params: list[SamplingParams] = []
        self.scored: list[list[Tokens]] = []
        self.prefills: list[int | None] = []
        self.finish_reason = "stop"

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        self.generated.append([tuple(prompt) for prompt in prompts])
        self.params.append(params)
        return [self._answer(tuple(prompt), params, len(prompts)) for prompt in prompts]

    def _answer(self, prompt: Tokens, params: SamplingParams, batch_size: int) -> Generation:
        tokens: list[int] = []
        while len(tokens) < params.max_tokens and (not tokens or tokens[-1] != END or params.ignore_eos):
            tokens.append(self.next_token((*prompt, *tokens), batch_size))
        return Generation(tuple(tokens), tuple(float(i) for i in range(len(tokens))), self.finish_reason)

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        raise NotImplementedError

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        self.scored.append([tuple(sequence) for sequence in sequences])
        self.prefills.append(prefill)
        return [
            tuple(self.logprob(tuple(sequence[:i]), sequence[i]) for i in range(1, len(sequence)))
            for sequence in sequences
        ]

    def memory(self) -> MemoryUse:
        return MemoryUse()

    def effective(self) -> Effective:
        return Effective("fp32", "fp32", "fp32", 100, 1)

    def close(self) -> None:
        return None


def reply(tokenizer: WordTokenizer, answers: dict[str, str]) -> Callable[[Tokens, int], int]:
    """A next-token function that gives each user text its answer, then ends."""
    full = {tuple(tokenizer.chat(text)): tokenizer.encode(answer) for text, answer in answers.items()}

    def next_token(tokens: Tokens, batch_size: int) -> int:
        del batch_size
        prompt = max((known for known in full if tokens[: len(known)] == known), key=len)
        done = len(tokens) - len(prompt)
        return full[prompt][done] if done < len(full[prompt]) else END

    return next_token
