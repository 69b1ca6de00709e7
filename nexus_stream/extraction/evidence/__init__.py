"""Whether the user said a claimed value: its letters or digits, however they were written or dictated."""
