"""What a session will do, decided once at the end of collection."""
