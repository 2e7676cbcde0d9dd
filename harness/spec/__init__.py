"""What to run: frozen dataclasses, no I/O, no numpy."""
