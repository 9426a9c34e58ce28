"""The configurations that come with the suite, one model each."""
