"""Read a conversation: extractors (Claude, offline rules), grounding, scoring, merging and their evaluation."""
