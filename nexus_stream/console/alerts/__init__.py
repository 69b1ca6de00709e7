"""When something is wrong: the conditions, what fires now, and who is told."""
