"""Write enriched prospects to Supabase: connections, upsert, merge rules, error classes and migrations."""
