"""From burst times to a verdict: pure functions on arrays. No clock, no file, no process is touched here."""
