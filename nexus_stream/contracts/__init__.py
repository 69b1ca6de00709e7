"""Records that cross a process boundary, and the schemas published from them."""
