"""Everything that only a GPU can show."""
