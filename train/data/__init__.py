"""Training pairs: rendered scenes, photographs, annotated videos."""
