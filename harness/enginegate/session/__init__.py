"""One session's files, running engines and samples."""
