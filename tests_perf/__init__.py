"""Speed, latency, memory, size and build time of engines, each gated."""
