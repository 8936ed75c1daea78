"""The reduced precisions: how their graphs are made."""
