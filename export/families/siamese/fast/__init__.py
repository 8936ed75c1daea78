"""The family's exact fast form, written into ONNX graphs."""
