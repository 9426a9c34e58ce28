"""What engines answer: multiple choice, perplexity, similarity, summaries, determinism."""
