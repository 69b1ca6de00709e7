"""One file per stage, in the order a message meets them: enrichment, then sink."""
