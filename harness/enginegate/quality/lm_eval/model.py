"""One of our engines as a language model of lm-evaluation-harness.

::

    from enginegate.quality.lm_eval.model import EngineLM
    lm_eval.simple_evaluate(model=EngineLM(engine, tokenizer), tasks=["arc_easy"])

Texts become tokens as lm-eval's own Transformers path does it, so the two agree item by item on one engine. Where that
path would change what was asked (cut a prompt that is too long, drop the system's message, sample), this one refuses.

Importing this module imports ``lm_eval``: do it where it is used.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.core.specs import SamplingParams
from enginegate.engines.base import Engine
from enginegate.quality.text import Tokenizer, batches, generate_tokens, score_sequences

#: Names for the most tokens of an answer, the first given one counting, as lm-eval has it.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
#: What only matters where an answer is sampled.
_SAMPLING = frozenset({"top_p", "top_k", "min_p", "typical_p", "seed"})
#: Settings of a generation that mean nothing else than greedy decoding.
_GREEDY: Mapping[str, tuple[object, ...]] = {"num_beams": (1,), "use_cache": (True,), "repetition_penalty": (1, 1.0)}
#: A token more likely than all others together is the greedy one.
_SURELY_GREEDY = math.log(0.5)

Tokens = list[int]


class EngineLM(TemplateLM):  # type: ignore[misc]
    """See the module.

    Args:
        engine: answers and scores, in batches of its own making.
        tokenizer: the model's.
        prefix: tokens in front of every text that does not begin with them already, such as BOS for Llama and its kin.
        greedy_for: names of the tasks that read whether a continuation is the greedy one, which takes an answer for
            each context; the others are told that it is not. None: all of them.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        prefix: Sequence[int] = (),
        greedy_for: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._words = tokenizer
        self._prefix = list(prefix)
        self._greedy_for = greedy_for

    @property
    def eot_token_id(self) -> int:
        """The first of the tokens that end an answer."""
        return int(next(iter(self._words.eos_ids)))

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it: BOS, or where there is none the end of an answer."""
        bos = self._words.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """Tokens that go through the engine at once; one more can be predicted."""
        return self._engine.spec.max_input_len + self._engine.spec.max_output_len - 1

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, by which lm-eval keeps requests."""
        return self._words.name

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's chat template; there is one alone, so a name chooses nothing. None where none is asked for."""
        return self._words.template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as one text. Raises ModelError where the model has no template, or one that refuses it."""
        return self._words.conversation(chat_history, add_generation_prompt)

    def get_model_info(self) -> dict[str, object]:
        """What lm-eval's results say of the model."""
        spec = self._engine.spec
        return {"engine": spec.id, "backend": spec.backend, "precision": spec.precision}

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> Tokens:
        """Token ids, with the prefix in front unless it is there already or ``add_special_tokens`` is false."""
        tokens = self._words.encode(string)
        has = tokens[: len(self._prefix)] == self._prefix
        return tokens if add_special_tokens is False or has else [*self._prefix, *tokens]

    def loglikelihood(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation after its context, and whether it is what greedy decoding gives.

        Raises:
            ConfigError: a continuation without a token, or a text longer than the engine was built for.
            MeasurementError: a log-likelihood that is not finite.
        """
        pairs = [self._pair(*request.args) for request in requests]
        values = self._scored(pairs)
        read = [self._greedy_for is None or request.task_name in self._greedy_for for request in requests]
        greedy = self._greedy([pair if asked else None for pair, asked in zip(pairs, read, strict=True)], values)
        return [(math.fsum(row), found) for row, found in zip(values, greedy, strict=True)]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: object) -> list[float]:
        """Log-likelihood of whole texts, each by itself, in windows as long as the engine takes them."""
        windows: list[tuple[Tokens, Tokens]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            found = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
            windows += map(make_disjoint_window, found)
            owners += [number] * (len(windows) - len(owners))
        sums: dict[int, list[float]] = defaultdict(list)
        for owner, values in zip(owners, self._scored(windows), strict=True):
            sums[owner] += values
        return [math.fsum(sums[number]) for number in range(len(requests))]

    def generate_until(self, requests: Sequence[Any], **_: object) -> list[str]:
        """Greedy answers, each cut before the first of its ``until`` texts.

        Raises:
            CapabilityError: a task that samples, or decodes in another way than greedily.
            ConfigError: an answer or a prompt longer than the engine was built for.
        """
        wanted = [read_generation(request.task_name, *request.args[1:], most=self._most) for request in requests]
        texts = [""] * len(requests)
        for length in sorted({each[1] for each in wanted}):
            asked = {str(n): self.tok_encode(requests[n].args[0]) for n in range(len(texts)) if wanted[n][1] == length}
            for key, tokens in self._answers(asked, length).items():
                texts[int(key)] = cut_before(self._words.decode(tokens), wanted[int(key)][0])
        return texts

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
        """Of contexts and continuations that are tokens already; lm-eval's own classes call it."""
        pairs = [(list(context), list(continuation)) for _, context, continuation in requests]
        values = self._scored(pairs)
        return [(math.fsum(row), found) for row, found in zip(values, self._greedy(pairs, values), strict=True)]

    @property
    def _most(self) -> int:
        return self._engine.spec.max_output_len

    def _answers(self, prompts: Mapping[str, Tokens], length: int) -> dict[str, tuple[int, ...]]:
        return generate_tokens(self._engine, self._words, prompts, length, self._engine.spec.max_batch_size)

    def _pair(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Tokens of a context and of its continuation, neither of them empty."""
        if context:
            before, after = self._encode_pair(context, continuation)
        else:
            before, after = [self.prefix_token_id], self.tok_encode(continuation, add_special_tokens=False)
            if after[:1] == before:
                before, after = after[:1], after[1:]
        if not before or not after:
            raise ConfigError(
                f"the continuation {continuation!r} adds no token to the text that ends in {context[-40:]!r}",
                "give the task continuations that the tokenizer can tell from nothing",
            )
        return before, after

    def _scored(self, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[tuple[float, ...]]:
        """Log-probabilities of each continuation's tokens."""
        if not pairs:
            return []
        sequences = {("", number): before + after for number, (before, after) in enumerate(pairs)}
        scored = score_sequences(self._engine, self._words, sequences)
        return [scored["", number][-len(after) :] for number, (_, after) in enumerate(pairs)]

    def _greedy(self, pairs: Sequence[tuple[Tokens, Tokens] | None], values: Sequence[Sequence[float]]) -> list[bool]:
        """Whether the engine itself would have said each continuation; False for what nobody reads.

        Where each of its tokens has more than half of the probability it surely would; else it is asked.
        """
        found = [pair is not None and min(row) > _SURELY_GREEDY for pair, row in zip(pairs, values, strict=True)]
        asked = {n: pair for n, pair in enumerate(pairs) if pair is not None and not found[n]}
        said: dict[tuple[int, ...], tuple[int, ...]] = {}
        for length in sorted({len(after) for _, after in asked.values()}):
            contexts = {tuple(before) for before, after in asked.values() if len(after) == length}
            said |= self._said(contexts, length)
        return [
            found[n] or (n in asked and list(said[tuple(asked[n][0])][: len(asked[n][1])]) == asked[n][1])
            for n in range(len(pairs))
        ]

    def _said(self, contexts: Iterable[tuple[int, ...]], length: int) -> dict[tuple[int, ...], tuple[int, ...]]:
        """What greedy decoding says after each context, ends of answers included."""
        engine = self._engine
        prompts = {("", number): context for number, context in enumerate(sorted(contexts))}
        params = SamplingParams(max_tokens=length, ignore_eos=True)
        said: dict[tuple[int, ...], tuple[int, ...]] = {}
        for batch in batches(prompts, engine.spec.max_batch_size):
            answers = engine.generate([prompts[key] for key in batch], params)
            said |= {prompts[key]: answer.token_ids for key, answer in zip(batch, answers, strict=True)}
        return said


def read_generation(task: str | None, settings: Mapping[str, Any] | None = None, *, most: int) -> tuple[list[str], int]:
    """The texts before which an answer ends, and its most tokens, from a task's ``generation_kwargs``.

    Args:
        task: its name, for messages.
        settings: as the task has them.
        most: the tokens of an answer where the task does not say.

    Raises:
        CapabilityError: another way of decoding than greedily.
        ConfigError: a length or a text that is none.
    """
    given = dict(settings or {})
    name = f"lm-eval's task {task!r}"
    lengths = [given.pop(key) for key in _LENGTHS if key in given]
    length = next((value for value in lengths if value is not None), most)
    until = given.pop("until", None) or []
    until = [until] if isinstance(until, str) else until
    samples, temperature = given.pop("do_sample", None), given.pop("temperature", None) or 0.0
    if samples or (samples is None and float(temperature) > 0):
        raise CapabilityError(
            f"{name} samples (do_sample: {samples}, temperature: {temperature}), and engines here decode greedily",
            "set do_sample: false under its generation_kwargs, or take another task",
        )
    others = sorted(key for key in given if key not in _SAMPLING and given[key] not in _GREEDY.get(key, ()))
    if others:
        raise CapabilityError(
            f"{name} decodes by {', '.join(f'{key}: {given[key]!r}' for key in others)}, which engines here cannot",
            "take it out of the task's generation_kwargs, or take another task",
        )
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"{name} asks for answers of {length!r} tokens", "give max_gen_toks a number from 1 on")
    if not isinstance(until, list) or not all(isinstance(text, str) for text in until):
        raise ConfigError(f"{name} ends answers at {until!r}, which are no texts", "give until a list of texts")
    return [text for text in until if text], length


def cut_before(text: str, until: Iterable[str]) -> str:
    """A text up to where the first of these begins."""
    for end in until:
        text = text.split(end)[0]
    return text
