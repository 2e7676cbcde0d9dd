"""What the inspector says, read: its text is not always JSON."""

from __future__ import annotations

import json

import pytest

from harness.runtimes.trt_layers import parsed

# As 8.6.0 said of a model that was exported on Windows (a layer of PLCMOS, shortened): nothing in it is escaped.
WINDOWS = r"""{"Layers": [{
  "Name": "Gemm_48",
  "LayerType": "CaskGemmConvolution",
  "Metadata": "[ONNX Layer: Gemm_48 | C:\Users\someone\tools\audio\plc_mos\models.py(191): forward]"
}], "Bindings": ["a"]}"""


def test_paths_of_windows_are_no_escapes():
    with pytest.raises(ValueError, match="escape"):
        json.loads(WINDOWS, strict=False)
    (layer,) = parsed(WINDOWS)["Layers"]
    assert layer["Name"] == "Gemm_48"
    assert layer["Metadata"] == (
        r"[ONNX Layer: Gemm_48 | C:\Users\someone\tools\audio\plc_mos\models.py(191): forward]"
    )


def test_escapes_of_json_stay_what_they_are():
    assert parsed(json.dumps({"Layers": [{"Name": 'a"b\\c\n'}]}))["Layers"] == [{"Name": 'a"b\\c\n'}]


def test_quotes_that_are_escaped_stay_quotes_among_paths():
    text = r'{"Layers": [{"Name": "say \"x\" in C:\Users"}]}'
    assert parsed(text)["Layers"] == [{"Name": r'say "x" in C:\Users'}]


def test_line_breaks_stand_as_they_are():
    assert parsed('{"Layers": [{"Metadata": "one\ntwo\x1e"}]}')["Layers"] == [{"Metadata": "one\ntwo\x1e"}]


def test_what_is_no_json_is_said():
    with pytest.raises(ValueError, match="Expecting"):
        parsed("Layers: C:\\Users")
