"""What this machine lends to a process: loopback ports and lock files."""
