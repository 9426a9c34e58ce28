"""The machine: processor, limits, GPUs, processes, and who else is using them."""
