"""The SQLite backend: one file, written by one thread at a time and read by several."""
