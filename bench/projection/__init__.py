"""What a network would take on a GPU that is not here: `docs/projection.md` says how, and how wrong it is.

Three kinds of numbers, never in one column: measured here, published by others, projected.
"""
