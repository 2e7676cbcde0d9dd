"""Records of what was measured: one append-only JSON Lines file a run."""
