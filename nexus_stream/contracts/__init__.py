"""Records that cross a process boundary, and the schemas that are published from them."""
