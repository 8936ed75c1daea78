"""Trackers behind a server: NVIDIA Triton's Python backend, and its client."""
