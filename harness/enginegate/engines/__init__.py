"""Engines: what a backend and a loaded engine must be able to do, and the backends that do it."""
