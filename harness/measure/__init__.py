"""Measuring: interleaved blocks of short bursts."""
