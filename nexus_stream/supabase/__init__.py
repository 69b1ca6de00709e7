"""Enriched prospects into Supabase: connections, upsert, merge rules, error classes and migrations."""
