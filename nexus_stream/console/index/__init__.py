"""The console's local SQLite index: read from the topics, written by one process."""
