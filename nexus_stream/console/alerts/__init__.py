"""Alerts: their conditions, the firing alerts, and the notifications."""
