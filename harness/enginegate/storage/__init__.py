"""Run records, accepted baselines and the history: reading, writing, migrating. Nothing here judges."""
