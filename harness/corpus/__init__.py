"""Samples: real data, a user's own data, hypothesis strategies, and the catalogue of models."""
