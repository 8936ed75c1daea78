"""TensorRT and TensorRT-RTX: engines built here, kept in a cache, judged before they are used."""
