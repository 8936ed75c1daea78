"""The exact fast form, written as ONNX graphs."""
