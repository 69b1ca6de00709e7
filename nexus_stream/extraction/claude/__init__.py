"""Read a conversation with Claude."""
