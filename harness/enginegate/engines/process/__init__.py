"""Engines in processes of their own: the session's side, the process's side, and the messages between them."""
