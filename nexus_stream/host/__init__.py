"""Resources of this machine: loopback ports, lock files and the log."""
