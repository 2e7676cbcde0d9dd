"""A stand-in for the part of pycuda that an inference needs. Device memory is host memory."""

VERSION = (2026, 1)
VERSION_TEXT = "2026.1"
