"""The device loop: crop, network and box on the GPU as one launch."""
