"""Which case to ship for a goal: candidates, rungs of growing cost, the evidence, and where profiles should stand."""
