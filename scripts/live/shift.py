"""How far a ratio to the reference shifts between sessions of one machine: python scripts/live/shift.py

From ten sessions of one 2-core machine on one day (docs/results/live/stored-*.json), engines and reference unchanged:
the variance of the sessions' locations less their own mean squared error, pooled over three engines and two batch
sizes. These are the defaults of ``gates.speed.shift``.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from enginegate.gates.robust import locate
from tables import METRICS, stored_baselines


def between_sessions() -> dict[str, float]:
    """By metric, the standard deviation of a session's shift, log ratio."""
    engines = list(chain.from_iterable(baseline.engines.values() for baseline in stored_baselines().values()))
    found = {}
    for metric in METRICS:
        variances = []
        for engine in engines:
            located = [locate(session.log_ratios[metric], order=session.orders or None) for session in engine.sessions]
            own = np.mean([float(each.error) ** 2 for each in located])
            variances.append(max(0.0, np.var([float(each.estimate) for each in located], ddof=1) - own))
        found[metric] = float(np.sqrt(np.mean(variances)))
    return found


if __name__ == "__main__":
    for name, value in between_sessions().items():
        print(f"{name}: {value:.3f}")
