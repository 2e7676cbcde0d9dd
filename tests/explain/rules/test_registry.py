"""One registry, which tests and documents are held against."""

from __future__ import annotations

import random
import re
from pathlib import Path

import onnx
import pytest

from harness.explain.rules import RULES, Graph, Subject, findings, silent
from harness.spec.calibration import Dialect
from tests.explain.rules import clean, planted

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/guide/findings.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### `([a-z0-9-]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_rule_has_a_planted_fault():
    measured = "".join(path.read_text() for path in Path(__file__).parent.glob("test_[al]*.py"))
    kinds = {plant.kind for plant in planted.PLANTS} | {kind for kind in RULES if f'"{kind}"' in measured}
    assert kinds == set(RULES)


def test_every_rule_is_in_the_documents_and_no_other():
    assert [*ENTRIES] == sorted(ENTRIES, key=[*ENTRIES].index)
    assert set(ENTRIES) == set(RULES)


@pytest.mark.parametrize("kind", RULES)
def test_entry(kind):
    """It says how bad, what it goes by, what it costs, and what to do."""
    text = ENTRIES[kind]
    head = text.strip().partition("\n- *")[0]
    assert re.findall(r"\*\*(wrong|slow|note)\*\*", head) == [*RULES[kind].severities]
    assert all(f"- *{word}*: " in text for word in ("evidence", "cost", "do"))


def test_entries_name_the_evidence():
    for plant in planted.PLANTS:
        shown = set(re.findall(r"`(\w+)`", ENTRIES[plant.kind]))
        assert set(plant.evidence) <= shown, plant.kind


def test_what_cannot_speak():
    alone = silent(Subject(Graph(clean.fp32())))
    assert {"long-attention", "float-fallback", "far-opt", "outlier-activation"} <= set(alone)
    assert "bad-scale" not in alone


def test_odd_graphs_end_no_rule(tmp_path):
    """Files are others': nodes without inputs, names that lead nowhere, circles, constants of other types."""
    sound = [clean.fp32(), *(clean.qdq(clean.fp32(), one, tmp_path) for one in Dialect)]
    drawn = random.Random(3)
    for _ in range(150):
        model = onnx.ModelProto()
        model.CopyFrom(drawn.choice(sound))
        for _ in range(drawn.randint(1, 6)):
            spoil(model, drawn)
        findings(model, model_spec=drawn.choice([None, clean.SPEC]), dialect=drawn.choice([None, *Dialect]))


def spoil(model, drawn):
    graph = model.graph
    if not graph.node:
        return
    one = drawn.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    change = drawn.randrange(8)
    if change == 0 and one.input:
        one.input[drawn.randrange(len(one.input))] = drawn.choice([*names, "", "nowhere"])
    elif change == 1:
        del one.input[drawn.randint(0, len(one.input)) :]
    elif change == 2:
        del one.output[:]
    elif change == 3:
        one.op_type = drawn.choice([other.op_type for other in graph.node])
    elif change == 4:
        graph.node.remove(one)
    elif change == 5:
        drawn.choice(graph.initializer).dims.append(drawn.choice([0, 3, -1]))
    elif change == 6:
        drawn.choice(graph.initializer).data_type = drawn.choice([1, 2, 3, 6, 7, 9, 10, 11, 16, 22])
    else:
        del one.attribute[:]
