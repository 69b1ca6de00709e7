"""The enricher's stage and its parts: judging, extracting, intents, decisions, purging."""
