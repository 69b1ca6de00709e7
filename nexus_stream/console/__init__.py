"""The console: a web view of table state over a local index of the changelog; read side only."""
