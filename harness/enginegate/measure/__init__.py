"""Engines and a workload become samples: interleaved rounds, memory in a process of its own, the fingerprint."""
