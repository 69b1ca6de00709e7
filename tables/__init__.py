"""One file per table: its record, its key, its changelog and retention."""
