"""Resources of this machine: loopback ports and lock files."""
