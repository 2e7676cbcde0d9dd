"""Tables on a terminal."""

from __future__ import annotations

from harness.explain.beside import beside
from harness.explain.layer import Layer, LayerTable, Roofline
from harness.explain.shown import beside_table, heading, layer_table, roofline_line, sums_table
from harness.report.plain import plain_lines

ROOF = Roofline({"fp32": 1e11, "int8": 4e11}, 3e10)
LONG = "encoder.layer.11.attention.output.dense/a_name_that_is_much_longer_than_any_column_would_be/product"


def layer(name, us, **more):
    fields = {"operator": "MatMul", "nodes": (name,), "precision": "fp32", "role": "compute", "time_us": us}
    return Layer(**{"name": name, "operations": 10**7, "moved_bytes": 10**5, **fields, **more})


def table(*layers, whole=1000.0):
    return LayerTable("small-onnxruntime-1.32.0-cpu-fp32-single", 48, layers, whole, 2_000_000)


def lines(*parts):
    found = plain_lines(*parts, width=100)
    assert max(map(len, found)) <= 100
    return found


def test_the_longest_layers_come_first_in_100_columns():
    found = lines(layer_table(table(layer("a", 200.0), layer(LONG, 600.0, kernel="k" * 200), layer("c", 1.0)), ROOF, 2))
    text = "\n".join(found)
    assert found[2].startswith("encoder.layer.11.attention.output.dense")
    assert found[3].startswith("  kkkk"), "its kernel stands below"
    for part in ("600us", "75%", "10M", "100k", "17%"):  # 100 us of 600 on the roof
        assert part in text
    assert "c " not in found[-1]


def test_without_times_there_are_no_columns_for_them():
    found = lines(layer_table(table(layer("a", None), whole=None), None, 5))
    assert found[0].split() == ["layer", "operator", "in", "ops", "bytes", "ops/B"]
    assert "no times here" in heading(table(layer("a", None), whole=None), "frames")


def test_one_layer_and_a_run_that_took_no_time():
    assert "1 layer that takes 0.50 of it" in heading(table(layer("a", 500.0)), "frames")
    assert "2 layers that take" in heading(table(layer("a", 500.0), layer("b", 1.0)), "frames")
    assert "no times here" in heading(table(layer("a", 5.0), whole=0.0), "frames")


def test_what_got_slower_stands_above_what_got_faster():
    was = table(layer("a", 100.0), layer("b", 500.0), layer("same", 7.0))
    now = table(
        layer("a", 150.0), layer("b", 100.0, precision="int8"), layer("same", 7.0),
        layer("q", 30.0, nodes=(), role="quantize", operator="QuantizeLinear"),
    )  # fmt: skip
    found = lines(beside_table(beside(was, now), 5))
    assert [line.split()[0] for line in found[2:]] == ["a", "q", "b"]
    assert [line.split()[-1] for line in found[2:]] == ["+50us", "+30us", "-400us"]
    sums = lines(sums_table([was, now]))
    assert any(line.startswith("quantize") and "30.0us" in line for line in sums)


def test_names_cannot_move_the_cursor():
    text = "\n".join(lines(layer_table(table(layer("a\x1b[2J\x9b", 5.0)), ROOF, 3)))
    assert "\x1b" not in text
    assert "\u241b[2J\ufffd" in text


def test_the_roof_in_one_line():
    assert roofline_line(ROOF) == (
        "roof: the best measured here: fp32 100Gop/s, int8 400Gop/s; memory 30GB/s, caches 30GB/s"
    )
    assert "fp16 332Top/s; memory 4.25TB/s" in roofline_line(Roofline({"fp16": 3.32e14}, 4.25e12))
