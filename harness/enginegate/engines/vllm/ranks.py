"""What the workers of a loaded vLLM hold: one worker a card, in processes of their own where there are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rank:
    """One worker's share of the engine.

    Attributes:
        weights: bytes of parameters and buffers by torch's name of their element type.
        kv_bytes: bytes of its KV pool.
        kv_type: torch's name of the pool's element type.
        kv_element_bytes: bytes of one element.
        attention: names of the attention backends in use; empty where this vLLM keeps them elsewhere.
    """

    weights: dict[str, int]
    kv_bytes: int
    kv_type: str
    kv_element_bytes: int
    attention: str


def read_ranks(executor: Any) -> list[Rank]:
    """Ask every worker of vLLM's executor, in this process or not."""
    ranks: list[Rank] = executor.collective_rpc(read_rank)
    return ranks


def read_rank(worker: Any) -> Rank:
    """What one worker holds; runs where the worker is."""
    runner = getattr(worker, "worker", worker).model_runner
    weights: Counter[str] = Counter()
    for tensor in _distinct((*runner.model.parameters(), *runner.model.buffers())):
        weights[str(tensor.dtype)] += tensor.nbytes
    pool = _distinct(_flat(runner.kv_caches))
    groups = getattr(runner, "attn_groups", None) or []
    return Rank(
        weights=dict(weights),
        kv_bytes=sum(tensor.nbytes for tensor in pool),
        kv_type=str(pool[0].dtype),
        kv_element_bytes=pool[0].element_size(),
        attention=", ".join(sorted({str(group.backend.get_name()) for inner in groups for group in inner})),
    )


def message_queues(executor: Any) -> list[Any]:
    """What vLLM's executor talks to its workers through; empty where its only one is in this process."""
    queues = [getattr(executor, "rpc_broadcast_mq", None), *(getattr(executor, "response_mqs", None) or ())]
    return [queue for queue in queues if queue is not None]


def close_queues(queues: Iterable[Any]) -> None:
    """Close the ZeroMQ sockets of queues whose workers are gone.

    vLLM (0.24) leaves that to the garbage collector, which may finalize a context before its sockets, and pyzmq's
    finalizer of a context then waits for those sockets for ever.
    """
    for queue in queues:
        socket = getattr(queue, "local_socket", None)
        if socket is not None:
            socket.context.destroy(linger=0)


def weights_of(ranks: Sequence[Rank]) -> dict[str, int]:
    """Bytes of the weights of all ranks, by element type."""
    total: Counter[str] = Counter()
    for rank in ranks:
        total.update(rank.weights)
    return dict(total)


def _flat(caches: Iterable[Any]) -> list[Any]:
    return [tensor for cache in caches for tensor in (cache if isinstance(cache, (list, tuple)) else (cache,))]


def _distinct(tensors: Iterable[Any]) -> list[Any]:
    """Each tensor once, however many names it has."""
    return list({tensor.data_ptr(): tensor for tensor in tensors}.values())
