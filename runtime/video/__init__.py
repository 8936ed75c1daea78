"""Frames from anywhere, decoded ahead, and what is drawn on them."""
