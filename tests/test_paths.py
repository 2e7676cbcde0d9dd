from __future__ import annotations

import pytest

from harness.errors import WriteFailed
from harness.paths import cache_dir, written


def test_a_cache_folder_that_cannot_be_made_is_named_with_its_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file" / "cache", "/proc/nope"):
        monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(root))
        with pytest.raises(WriteFailed, match="cannot be made") as caught:
            cache_dir("corpora")
        assert caught.value.where == f"{root}/corpora"
        assert "TRT_INT8_HARNESS_CACHE" in caught.value.todo


def test_what_is_written_is_there_when_it_is_whole(tmp_path):
    target = tmp_path / "model.onnx"
    with written(target) as file:
        file.write(b"first")
        assert not target.exists()
    with written(target) as file:
        file.write(b"second")
        file.flush()
        assert target.read_bytes() == b"first"
    assert target.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"first")

    def half_way():
        with written(target) as file:
            file.write(b"sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_way()
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
