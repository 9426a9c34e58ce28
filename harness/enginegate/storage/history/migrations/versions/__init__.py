"""One module for each migration, the oldest first."""
