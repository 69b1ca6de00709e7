"""``nexus doctor``: reach everything as configured, and say what is wrong, why it matters and how to fix it."""
