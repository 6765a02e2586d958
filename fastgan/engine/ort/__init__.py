"""ONNX Runtime on the file as it is."""
