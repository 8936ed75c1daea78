"""What the five commands share."""
