"""Logs, metrics, traces and status for operators. They never hold personal data."""
