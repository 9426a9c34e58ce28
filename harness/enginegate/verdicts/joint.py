"""Is the faster engine still the same engine: speed and quality of each engine, taken together.

Speed is asserted before quality has run. In one public collection of optimization runs, collapsed models were a median
22 % faster: a speed PASS of an engine whose quality failed says nothing, so it is withdrawn at the session's end.
"""

from __future__ import annotations

from collections.abc import Iterator

from enginegate.core.records import JointEntry, RunRecord, VerdictEntry

#: The gates of answers and scores, by the name that their inputs carry.
_QUALITY = frozenset({"accuracy", "corpus", "nll", "divergence", "flips", "lengths"})
#: The gates of speed.
_SPEED = frozenset({"speed", "kv_speed"})


def joint_verdicts(record: RunRecord) -> list[JointEntry]:
    """One entry for each engine that passed a speed gate and whose quality was judged, or was to be."""
    return list(_joint(record))


def _joint(record: RunRecord) -> Iterator[JointEntry]:
    for engine in dict.fromkeys(verdict.engine for verdict in record.verdicts):
        ours = [verdict for verdict in record.verdicts if verdict.engine == engine]
        fast = [verdict for verdict in ours if _gate(verdict) in _SPEED and verdict.status == "PASS"]
        quality = [verdict for verdict in ours if _gate(verdict) in _QUALITY]
        failed = [verdict for verdict in quality if verdict.status == "FAIL"]
        expected = engine in record.quality_planned and not record.model.random_weights
        if not fast or not (quality or expected):
            continue
        withdrawn = f"{engine}: its speed PASS is withdrawn"
        if failed:
            worst = "; ".join(verdict.explanation for verdict in failed[:2])
            more = f"; and {len(failed) - 2} more" if len(failed) > 2 else ""
            yield JointEntry(
                engine=engine, status="FAIL", explanation=f"{withdrawn}: it is not the same engine: {worst}{more}"
            )
        elif not quality:
            yield JointEntry(
                engine=engine,
                status="FAIL",
                explanation=f"{withdrawn}: its quality was to be tested, and gave no verdict",
            )
        else:
            count = f"{len(fast)} speed and {len(quality)} quality verdicts"
            yield JointEntry(engine=engine, status="PASS", explanation=f"{engine}: {count} taken together, no FAIL")


def _gate(verdict: VerdictEntry) -> str:
    return str(verdict.inputs.get("gate", ""))
