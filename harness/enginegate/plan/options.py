"""What a session was asked for, as one frozen value. ``plugin.options`` reads it from pytest's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginegate.plan.against import Against
from enginegate.plan.shards import Shard


@dataclass(frozen=True)
class Options:
    """What the command line asked for. Empty tuples mean: what the configuration file says.

    Attributes:
        root: the root folder of the project under test, as pytest found it.
        models: names of configurations, of the project's own configs/ or of those that come with the package.
        default_model: the model that is tested where neither is given.
        configs: configuration files given by path.
        engines: backends.
        precisions: precisions.
        batch_sizes: batch sizes of the timed work.
        baselines: folder of accepted baselines.
        require_baseline: a missing baseline fails; the default where the environment variable CI is set.
        strict: INCONCLUSIVE fails.
        time_budget: seconds for all timed arenas together, or None for the configuration's.
        runs: folder that receives the run records.
        history: SQLAlchemy URL of the history, or empty for ``<runs>/history.sqlite``.
        audit: measure the gates' own error rates on this machine.
        require_gpu: fail where no test ran on a GPU.
        against: the live base, or None.
        head: what is raced against it in place of this checkout in this Python; None for these.
        shard: the part of the session that this one runs; None for all.
        price_per_hour: of the machine, for the cost of tokens; None for the configuration's.
    """

    root: Path
    models: tuple[str, ...]
    default_model: str
    configs: tuple[Path, ...]
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    baselines: Path
    require_baseline: bool
    strict: bool
    time_budget: float | None
    runs: Path
    history: str
    audit: bool
    require_gpu: bool
    against: Against | None = None
    head: Against | None = None
    shard: Shard | None = None
    price_per_hour: float | None = None
