"""Work on many clips by several processes: on this machine, or on a Ray cluster."""
