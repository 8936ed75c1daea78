"""What a report measures, section by section."""
