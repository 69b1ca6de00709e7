"""Read a conversation with rules and word lists, without a model."""
