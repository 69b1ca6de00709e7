"""What this machine lends to a process: loopback ports, lock files and the log."""
