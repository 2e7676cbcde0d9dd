from __future__ import annotations

import pytest

from harness.errors import ConfigError, UsageError
from harness.spec.config import read_config
from harness.spec.hosts import read_host


@pytest.mark.parametrize(
    ("text", "label", "destination", "options"),
    [
        ("ssh=gpu1", "gpu1", "gpu1", ()),
        ("ssh=me@gpu1", "gpu1", "me@gpu1", ()),
        ("ssh=me@gpu1.lab.example", "gpu1.lab.example", "me@gpu1.lab.example", ()),
        ("ssh=-p 2222 me@gpu1", "gpu1-2222", "me@gpu1", ("-p", "2222")),
        ("ssh=-p2222 me@gpu1", "gpu1-2222", "me@gpu1", ("-p2222",)),
        ("ssh=-o Port=2222 gpu1", "gpu1-2222", "gpu1", ("-o", "Port=2222")),
        ("ssh=-oPort=2222 gpu1", "gpu1-2222", "gpu1", ("-oPort=2222",)),
        ("ssh=-i '~/my keys/ci' -4 gpu1", "gpu1", "gpu1", ("-i", "~/my keys/ci", "-4")),
        ("ssh=me@fe80::1", "fe80-1", "me@fe80::1", ()),
    ],
)
def test_what_is_written_is_read(text, label, destination, options):
    host = read_host(text)
    assert (host.label, host.destination, host.options) == (label, destination, options)
    assert (host.name, host.config, host.variables, host.gpus) == (label, "", (), "")


def test_a_file_and_variables_stand_behind():
    host = read_host("ssh=gpu1//ssh_config=ci/ssh_config//env:CUDA_VISIBLE_DEVICES=1,2//env:LD_LIBRARY_PATH=/a=b:/c")
    assert host.config == "ci/ssh_config"
    assert host.variables == (("CUDA_VISIBLE_DEVICES", "1,2"), ("LD_LIBRARY_PATH", "/a=b:/c"))
    assert host.gpus == "1,2"
    assert (host.label, host.name) == ("gpu1", "gpu1-cuda1-2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("me@gpu1", "'me@gpu1' in host 'me@gpu1' is not understood"),
        ("ssh", "'ssh' in host"),
        ("ssh=", "'ssh=' in host"),
        ("ssh=-p 2222", "names no machine"),
        ("ssh=-v", "names no machine"),
        ("ssh='me@gpu1", "No closing quotation"),
        ("ssh_config=a", "names no machine"),
        ("ssh=gpu1//ssh=gpu2", "ssh stands twice"),
        ("ssh=gpu1//python=python3", "'python=python3' in host"),
        ("ssh=gpu1//env:A B=1", "'env:A B=1' in host"),
        ("popen//ssh=gpu1", "'popen' in host"),
    ],
)
def test_what_is_written_otherwise_is_refused_with_the_way_to_write_it(text, said):
    with pytest.raises(UsageError) as caught:
        read_host(text)
    assert said in caught.value.what
    assert 'host = "ssh=user@host"' in caught.value.todo


def test_the_configuration_is_strict_about_it(tmp_path):
    file = tmp_path / "harness.toml"
    file.write_text('[environments]\ngpu = {python = "python3", host = "me@gpu1"}\n')
    with pytest.raises(ConfigError, match="is not understood") as caught:
        read_config(file)
    assert "[environments] gpu in " in caught.value.where
