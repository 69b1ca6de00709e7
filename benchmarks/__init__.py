"""Benchmarks. Each prints a table. Ratios within one run count more than absolute times."""
