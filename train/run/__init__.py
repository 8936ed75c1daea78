"""A training run: configuration, loop, state, what it leaves behind."""
