"""Serving: requests that arrive over time, what an engine makes of them, and whether that can be believed."""
