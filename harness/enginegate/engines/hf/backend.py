"""The reference: Hugging Face Transformers, eager, greedy, in a loop as bare as a fair comparison allows."""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginegate.core.errors import CapabilityError, EngineError, edge
from enginegate.core.files import read_json
from enginegate.core.progress import Step
from enginegate.core.specs import EngineSpec, RuntimeSpec, SamplingParams
from enginegate.engines.base import (
    Capabilities,
    Capability,
    Cells,
    Distribution,
    Effective,
    Generation,
    MemoryUse,
    Progress,
    TokenEvent,
)
from enginegate.engines.checkpoint import Geometry, check_loaded, link_checkpoint
from enginegate.engines.distributions import distribute, from_torch
from enginegate.engines.hf.memory_law import memory_law
from enginegate.engines.memory_law import MemoryLaw
from enginegate.engines.process.heartbeat import beat
from enginegate.engines.reference import fastest_precision
from enginegate.engines.requests import check_open, check_prompts, check_sequences, eos_token_ids, score_rows
from enginegate.machine import cpu
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.quantized import check_plain
from enginegate.models.vocabulary import vocabulary_size

_TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_SUITE_NAMES = {f"torch.{torch_name}": name for name, torch_name in _TORCH_NAMES.items()}
_INSTALL = "pip install 'enginegate[hf]'"

#: Float32 logits held at once while scoring: 64 Mi values, 256 MiB.
_LOGIT_BUDGET = 1 << 26


class HuggingFaceBackend:
    """Builds and loads the reference. An engine folder is the checkpoint itself, hard-linked."""

    name = "hf"
    libraries: Sequence[str] = ("torch", "transformers")

    def version(self) -> str:
        """Versions of torch and transformers."""
        return cpu.versions(("torch", "transformers"))

    def capabilities(self) -> Capabilities:
        """fp32, bf16 and fp16; the KV cache has the type of the weights."""
        device = "cuda" if cpu.has_cuda() else "cpu"
        missing = cpu.missing_modules(("torch", "transformers"))
        if missing:
            absent = Capability(False, f"{', '.join(missing)} not installed: {_INSTALL}")
            return Capabilities(dict.fromkeys(_TORCH_NAMES, absent), dict.fromkeys(_TORCH_NAMES, absent), device)
        precisions = {name: Capability(True) for name in _TORCH_NAMES}
        if device == "cpu":
            if not cpu.cpu_computes_bf16():
                precisions["bf16"] = Capability(True, "works, but this CPU has no bf16 arithmetic, so it is slow")
            precisions["fp16"] = Capability(True, "works, but float16 prompts and batches are slow on a CPU")
        return Capabilities(precisions, {name: Capability(True) for name in _TORCH_NAMES}, device)

    def memory_law(self, spec: EngineSpec, runtime: RuntimeSpec, geometry: Geometry, kv_format: str) -> MemoryLaw:
        """What an engine takes, before it is loaded."""
        return memory_law(spec, runtime, geometry, kv_format)

    def build(self, spec: EngineSpec, checkpoint: Checkpoint, out_dir: Path, progress: Progress) -> None:
        """Link the checkpoint's files into ``out_dir`` (copy them where the file systems differ)."""
        if spec.precision not in _TORCH_NAMES:
            raise CapabilityError(
                f"backend {self.name} has no precision {spec.precision!r}", f"take {', '.join(_TORCH_NAMES)}"
            )
        progress(Step(f"linking {checkpoint.path.name} for {spec.id}"))
        link_checkpoint(checkpoint.path, out_dir)
        check_plain(checkpoint.path)

    def fastest_precision(self, checkpoint: Checkpoint) -> tuple[str, dict[str, tuple[float, ...]]]:
        """The fastest of fp16 and fp32 on CUDA, of bf16 and fp32 on a CPU, and the seconds it was chosen by."""
        candidates = ("fp16", "fp32") if self.capabilities().device == "cuda" else ("bf16", "fp32")
        return fastest_precision(self, checkpoint, candidates)

    def load(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> HuggingFaceEngine:
        """Load the checkpoint in the spec's precision, on CUDA where torch has it."""
        self.check_loadable(spec, runtime)
        return HuggingFaceEngine(engine_dir, spec, runtime)

    def check_loadable(self, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        """Raise CapabilityError for a missing library, and for what Transformers' loop cannot be told.

        The scheduler policy ``inflight`` is the default of all backends, and not refused: the engine says in
        ``effective`` that it is static.
        """
        missing = cpu.missing_modules(("torch", "transformers"))
        if missing:
            raise CapabilityError(f"backend {self.name} needs {', '.join(missing)}", _INSTALL)
        if runtime.kv_precision not in ("auto", spec.precision):
            raise CapabilityError(
                f"backend {self.name} keeps the KV cache in the weights' precision {spec.precision}, "
                f"asked was {runtime.kv_precision}",
                "set kv_precision to auto",
            )
        if runtime.activation_precision not in ("auto", spec.precision):
            raise CapabilityError(
                f"backend {self.name} computes in the weights' precision {spec.precision}, "
                f"asked was {runtime.activation_precision}",
                "set activation_precision to auto",
            )
        refused = []
        if runtime.kv_cache_bytes:
            refused.append(f"kv_cache_bytes {runtime.kv_cache_bytes} (its cache grows with each answer)")
        if runtime.tokens_per_block is not None:
            refused.append(f"tokens_per_block {runtime.tokens_per_block} (its cache has no blocks)")
        if runtime.chunked_prefill:
            refused.append("chunked_prefill (a prompt goes through one pass)")
        if runtime.speculation != "none":
            refused.append(f"speculation {runtime.speculation}")
        if runtime.prefix_caching:
            refused.append("prefix_caching (each answer has a cache of its own)")
        if runtime.queue_order != "fcfs":
            refused.append(f"queue_order {runtime.queue_order} (nothing waits: it answers whole batches)")
        if refused:
            raise CapabilityError(
                f"{spec.id}: backend {self.name} has no {', '.join(refused)}",
                f"drop it from engines.{self.name}.runtime",
            )


def attention_of(folder: Path) -> str:
    """How a model's attention is computed: by torch's own function, or step by step where that leaves something out.

    Gemma 2 caps its attention scores, which the function does not, and Transformers says nothing of it.
    """
    if not (folder / "config.json").is_file():
        return "sdpa"  # whoever loads it says so
    config = read_json(folder / "config.json", EngineError, "build the engine again")
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    return "eager" if text.get("attn_logit_softcapping") else "sdpa"


class HuggingFaceEngine:
    """A loaded reference. See ``enginegate.engines.base.Engine``."""

    def __init__(self, engine_dir: Path, spec: EngineSpec, runtime: RuntimeSpec) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.spec = spec
        self.runtime = runtime
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._threads = runtime.threads or cpu.usable_cores()
        self._use_threads()
        with edge(EngineError, f"{spec.id}: {engine_dir} cannot be loaded", "rebuild the engine"):
            with _quiet_loading():
                model, report = AutoModelForCausalLM.from_pretrained(
                    engine_dir,
                    attn_implementation=attention_of(engine_dir),
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # listed below with all others
                    **{_dtype_keyword(): getattr(torch, _TORCH_NAMES[spec.precision])},
                )
            check_loaded(engine_dir, report)
            self._model: Any = model.to(self._device).eval()
        self._last_only = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        )
        self._eos = eos_token_ids(engine_dir)
        self._vocabulary = vocabulary_size(engine_dir)

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Generation]:
        """Greedy decoding of the whole batch in lockstep; see ``_steps``."""
        self._check_open()
        check_prompts(self.spec, prompts, params, self._vocabulary)
        eos = frozenset() if params.ignore_eos else self._eos
        ids: list[list[int]] = [[] for _ in prompts]
        times: list[float] = []
        running = set(range(len(prompts)))
        for tokens, elapsed in self._steps(prompts, params.max_tokens):
            times.append(elapsed)
            beat()
            for row in list(running) if eos else running:
                ids[row].append(tokens[row])
                if tokens[row] in eos:
                    running.discard(row)
            if not running:
                break
        return [Generation(tuple(row), tuple(times[: len(row)]), "stop" if row[-1] in eos else "length") for row in ids]

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[TokenEvent]:
        """The loop of ``generate`` at batch 1, one token at a time."""
        self._check_open()
        check_prompts(self.spec, [prompt], params, self._vocabulary)
        eos = frozenset() if params.ignore_eos else self._eos
        return self._events(prompt, params.max_tokens, eos)

    def _events(self, prompt: Sequence[int], max_tokens: int, eos: frozenset[int]) -> Iterator[TokenEvent]:
        for tokens, elapsed in self._steps([prompt], max_tokens):
            yield TokenEvent(tokens[0], elapsed)
            if tokens[0] in eos:
                return

    def _steps(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[tuple[list[int], float]]:
        """The reference loop: prefill, then one forward pass a token.

        Yields, up to ``max_tokens`` times, one token id for each prompt and the seconds since the call. Prompts of
        equal length carry no mask; shorter ones are padded on the left. Reading the ids waits for the device, so the
        time is taken when the tokens exist.
        """
        torch = self._torch
        self._use_threads()
        start = time.perf_counter()
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        rows = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        tokens = torch.tensor(rows, device=self._device)
        cache = None  # the first pass makes the model's own kind
        extra: dict[str, Any] = {}
        if any(padding):
            mask = torch.ones((len(prompts), longest + max_tokens), dtype=torch.long, device=self._device)
            for row, pad in enumerate(padding):
                mask[row, :pad] = 0
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            extra = {"attention_mask": mask[:, :longest], "position_ids": positions[:, :longest]}
        for seen in range(longest, longest + max_tokens):
            if extra and seen > longest:
                extra = {"attention_mask": mask[:, :seen], "position_ids": positions[:, seen - 1 : seen]}
            # Entered anew for each pass: held over a yield, it would leak into whoever reads this iterator.
            with torch.inference_mode():
                output = self._model(
                    input_ids=tokens, past_key_values=cache, use_cache=True, **extra, **self._last_only
                )
                cache = output.past_key_values
                tokens = output.logits[:, -1].argmax(-1, keepdim=True)
            chosen = tokens.squeeze(1).tolist()
            yield chosen, time.perf_counter() - start

    def score(self, sequences: Sequence[Sequence[int]], *, prefill: int | None = None) -> list[tuple[float, ...]]:
        """Log-probabilities in float32, [tokens - 1] a sequence, in batches padded on the right.

        Attention is causal and every sequence starts at position 0, so what is padded behind a sequence cannot change
        its scores and needs no mask. The logits held at once are bounded by ``_LOGIT_BUDGET``.
        """
        self._check_open()
        check_sequences(self.spec, sequences, prefill, self._max_length(), self._vocabulary)
        self._use_threads()

        def score(inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float32]:
            return self._score_batch(inputs, targets, prefill)

        positions = _LOGIT_BUDGET // self._vocabulary
        with self._fine_logits():
            return score_rows(sequences, positions, prefill, self._token_bytes(), score, self._branch)

    def _branch(
        self,
        stems: NDArray[np.int64],
        stem_targets: NDArray[np.int64],
        owners: NDArray[np.int64],
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See ``requests.Branch``: each row goes on from its stem's keys and values."""
        torch = self._torch
        here = [torch.from_numpy(each).to(self._device) for each in (stems, stem_targets, owners, inputs, targets)]
        with torch.inference_mode():
            output = self._model(input_ids=here[0], use_cache=True)
            stem_scores = _gather_log_softmax(torch, output.logits, here[1])
            cache = output.past_key_values
            if hasattr(cache, "batch_select_indices"):
                cache.batch_select_indices(here[2])
                logits = self._model(input_ids=here[3], past_key_values=cache, use_cache=True).logits
            else:  # a model with a cache of its own kind: read them again
                whole = torch.cat([here[0][here[2]], here[3]], 1)
                logits = self._model(input_ids=whole, use_cache=False).logits[:, stems.shape[1] :]
            scores = _gather_log_softmax(torch, logits, here[4])
        return np.asarray(stem_scores.cpu()), np.asarray(scores.cpu())

    def _score_batch(
        self, inputs: NDArray[np.int64], targets: NDArray[np.int64], prefill: int | None
    ) -> NDArray[np.float32]:
        torch = self._torch
        wanted = torch.from_numpy(targets).to(self._device)
        parts = []
        for begin, end, logits in self._passes(inputs, prefill):
            parts.append(_gather_log_softmax(torch, logits, wanted[:, begin:end]))
            beat(end / inputs.shape[1])
        return np.asarray(torch.cat(parts, 1).cpu())

    def distributions(
        self, sequences: Sequence[Sequence[int]], *, cells: Cells, prefill: int | None = None
    ) -> list[Distribution]:
        """See Engine: from the logits of the passes that ``score`` takes."""
        self._check_open()
        check_sequences(self.spec, sequences, prefill, self._max_length(), self._vocabulary)
        self._use_threads()
        with self._fine_logits():
            return distribute(
                sequences,
                cells,
                _LOGIT_BUDGET // self._vocabulary,
                prefill,
                self._token_bytes(),
                lambda inputs: self._passes(inputs, prefill),
                lambda logits, came, named: from_torch(self._torch, logits, came, named),
            )

    @contextmanager
    def _fine_logits(self) -> Iterator[None]:
        """Compute the output head in float32 meanwhile, where it is a plain linear layer.

        Logits in bf16 have 8 bits: two letters of a question often tie there. The hidden states are the engine's own.
        """
        head, linear = self._model.get_output_embeddings(), self._torch.nn.functional.linear
        if type(head) is not self._torch.nn.Linear or head.weight.dtype == self._torch.float32:
            yield
            return
        weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()
        head.forward = lambda hidden: linear(hidden.float(), weight, bias)
        try:
            yield
        finally:
            del head.forward

    def _passes(self, inputs: NDArray[np.int64], prefill: int | None) -> Iterator[tuple[int, int, Any]]:
        """Logits [rows, end - begin, vocabulary] of padded inputs [rows, time]: of one pass, or of decode steps."""
        torch = self._torch
        tokens = torch.from_numpy(inputs).to(self._device)
        last = inputs.shape[1]
        first = last if prefill is None else min(prefill, last)
        cache = None
        for begin, end in [(0, first), *((position, position + 1) for position in range(first, last))]:
            # Entered anew for each pass: held over a yield, it would leak into whoever reads this iterator.
            with torch.inference_mode():
                output = self._model(
                    input_ids=tokens[:, begin:end], past_key_values=cache, use_cache=prefill is not None
                )
                cache = output.past_key_values
            yield begin, end, output.logits

    def memory(self) -> MemoryUse:
        """Bytes of parameters and buffers, and the KV cache that the largest batch would need."""
        self._check_open()
        tokens = self.spec.max_batch_size * (self.spec.max_input_len + self.spec.max_output_len)
        return MemoryUse(
            weights=int(self._model.get_memory_footprint()),
            kv_cache=None,  # grows and goes with each call; nothing is allocated in between
            kv_cache_predicted=tokens * self._token_bytes(),
        )

    def _token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        geometry = Geometry.of(self._model.config.get_text_config().to_dict())
        return geometry.kv_elements_per_token * (4 if self.spec.precision == "fp32" else 2)

    def effective(self) -> Effective:
        """Types found in the parameters and in a cache after a small forward pass."""
        self._check_open()
        torch = self._torch
        found: Counter[str] = Counter()
        for parameter in self._model.parameters():
            found[_SUITE_NAMES.get(str(parameter.dtype), str(parameter.dtype))] += parameter.nbytes
        with torch.inference_mode():
            output = self._model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self._device), use_cache=True)
        cache = output.past_key_values
        # Caches are lists of layers since Transformers 4.54, and lists of tensors before.
        keys = cache.layers[0].keys if hasattr(cache, "layers") else cache.key_cache[0]
        return Effective(
            precision=dominant_precision(found),
            kv_precision=_SUITE_NAMES.get(str(keys.dtype), str(keys.dtype)),
            activation_precision=_SUITE_NAMES.get(str(output.logits.dtype), str(output.logits.dtype)),
            max_length=self._max_length(),
            threads=torch.get_num_threads() if self._device == "cpu" else None,
            scheduler_policy="static",
            chunked_prefill=False,
            speculation="none",
            details={
                "device": torch.cuda.get_device_name() if self._device == "cuda" else "cpu",
                "tensor_parallel": 1,
                "weight_bytes": dict(found),
                "attention": self._model.config._attn_implementation,
                "max_position_embeddings": self._positions(),
                "versions": cpu.versions(("torch", "transformers")),
            },
        )

    def close(self) -> None:
        """Drop the model and give its memory back."""
        if self._model is not None:
            self._model = None
            if self._device == "cuda":
                self._torch.cuda.empty_cache()

    def _positions(self) -> int:
        return int(self._model.config.get_text_config().max_position_embeddings)

    def _max_length(self) -> int:
        return min(self._positions(), self.spec.max_input_len + self.spec.max_output_len)

    def _use_threads(self) -> None:
        # torch's thread count belongs to the process, so another engine may have changed it.
        if self._torch.get_num_threads() != self._threads:
            self._torch.set_num_threads(self._threads)

    def _check_open(self) -> None:
        check_open(self.spec, self._model)


def _dtype_keyword() -> str:
    """What ``from_pretrained`` calls the weights' type: ``torch_dtype`` before Transformers 4.56, which warns of it."""
    major, minor = (int(part) for part in metadata.version("transformers").split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep Transformers' progress bar off the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def dominant_precision(weight_bytes: Mapping[str, int]) -> str:
    """The precision of at least 99 % of the weights' bytes, else ``mixed`` with what was found."""
    total = sum(weight_bytes.values())
    name = max(weight_bytes, key=weight_bytes.__getitem__)
    if weight_bytes[name] >= 0.99 * total:
        return name
    return "mixed: " + ", ".join(f"{kind} {size / total:.0%}" for kind, size in weight_bytes.items())


def _gather_log_softmax(torch: Any, logits: Any, targets: Any) -> Any:
    """Log-probability in float32 of each target.

    Shapes [rows, time, vocabulary], [rows, time, answers] -> [rows, time, answers].
    """
    logits = logits.float()
    return logits.gather(-1, targets) - torch.logsumexp(logits, -1, keepdim=True)
