"""ONNX files without the onnx package: what is looked at before an engine opens one."""
