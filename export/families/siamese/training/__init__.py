"""The losses of the two trackers."""
