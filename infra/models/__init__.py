"""Pretrained networks made into ONNX files, for the extractor `onnx`."""
