"""The command trtrun: the first box, the run, its outputs."""
