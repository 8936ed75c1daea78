"""The network as the papers say it, in PyTorch."""
