"""Finished graphs as calibration sees them: read, observed, computed in reduced precision."""
