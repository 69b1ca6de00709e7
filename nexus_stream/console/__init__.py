"""The console: a web view of table state, over a local index of the topics."""
