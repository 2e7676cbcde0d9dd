"""Calibration from ragged data: observe the FP32 model, choose ranges, write a Q/DQ graph or a TensorRT cache."""
