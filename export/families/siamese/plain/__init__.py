"""The family's networks as their papers say them."""
