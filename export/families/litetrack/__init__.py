"""LiteTrack: templates that run once through everything, search crops that meet them in the last blocks."""
