"""The history: every run's figures in a database, SQLite by default, any SQLAlchemy URL for a fleet of runners.

``database`` opens it, ``tables`` says how it is laid out and ``migrations`` how older ones become so, ``identity`` says
which figures belong to one series, ``store`` writes and reads, ``exchange`` and ``foreign`` bring runs in and out.
"""
