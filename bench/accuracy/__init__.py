"""Who takes part in an accuracy run, and what it reports."""
