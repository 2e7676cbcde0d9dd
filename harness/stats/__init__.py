"""From burst times to a verdict: pure functions on arrays. No clock, no file, no process is touched here.

scipy is imported by the functions that need it: scipy.stats takes most of a second of CPU, which a run that times
nothing, or is refused, need not pay.
"""
