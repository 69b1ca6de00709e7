"""Reading a conversation with Claude."""
