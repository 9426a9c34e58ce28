"""Pages for a browser: one file for runs, a folder for a history. Each is made from records and histories alone."""
