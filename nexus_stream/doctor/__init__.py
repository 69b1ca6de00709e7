"""``nexus doctor``: check all configured services, and report each problem, its effect and its fix."""
