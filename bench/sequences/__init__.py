"""Annotated clips, the metrics of the official toolkits, and trackers run over them."""
