"""The references: Transformers, eager, with a static cache, and as a captured graph."""
