"""Profiles: both sides of every boundary are served, by the right profile; anything outside is refused by name."""

import numpy as np
import pytest

from harness.corpus.content import Draw, boundaries, make
from harness.errors import LengthOutOfRange


@pytest.mark.cases(precisions=("int8",), default_calibration=True)
def test_boundaries(case, bench):
    served, entry = bench.served(case), bench.entries[case.model]
    corpus = None if entry.synthetic else bench.corpus(case.model, "test")
    layout, ran, refused = served.layout, [], []
    for length in boundaries(layout):
        if length < 1:
            continue
        feeds = make(Draw(length), entry, corpus)
        if layout.minimum <= length <= layout.maximum:
            profile = layout.profiles[layout.dispatch(length)]
            assert profile.min <= length <= profile.max
            outputs = served.run(feeds)
            output = outputs[bench.output(case.model)]
            assert output.size, f"length {length}: an empty output"
            assert np.isfinite(output).all(), f"length {length}: NaN or infinite values"
            ran.append(length)
        else:
            nearest = layout.profiles[0 if length < layout.minimum else -1]
            with pytest.raises(LengthOutOfRange, match=str(nearest)):
                served.run(feeds)
            refused.append(length)
    assert refused, "no length outside the layout was tried"
    bench.record("profiles", case, "pass", ran=ran, refused=refused)
