"""What the enrichment agent calls, in the order a settled session meets it: extracting, effects, purging."""
