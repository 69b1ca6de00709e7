"""What operators see: logs as events with fields, counters, states. Never a person's data."""
