"""A finished run's model as files that run without this program: ONNX, int8, safetensors, a torch program."""
