"""Measurements that print a table: ratios within one run, never a lone absolute time."""
