"""A correlation tracker of one 1×1 convolution: the smallest thing that is a family."""
