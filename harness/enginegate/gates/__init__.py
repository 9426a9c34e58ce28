"""Samples, a baseline and a policy become a Verdict. Pure and seeded: no I/O, no clock, nothing but numpy and scipy."""
