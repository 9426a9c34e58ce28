"""Comparing stored sessions: run records or pytest-benchmark files, any number of base sessions against a new one."""
