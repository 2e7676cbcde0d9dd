"""Commands that the documents and the help show and that no test runs as they stand: why, and what is checked instead.

``test_commands.py`` holds this against what is shown: nothing is missing here, and nothing here is run.
"""

from __future__ import annotations

LONG = "takes minutes, real models, or another runtime: collected by pytest, which reads every option"
GATE = "needs two versions on a GPU: read and paired up, over environments as tox names them, to where the run begins"
NETWORK = "needs a network: its models are looked up"
TIMES = "takes minutes: its options are read"
HOSTS = "needs other hosts: its options are looked up"
ASKS = "run without --yes, for it would remove what the other commands show"
INSTALLS = "installs, or takes minutes: its environment, extra, or benchmark with options is looked up"
THEIRS = "somebody else's program, or all of this project's tests: the files that it names are there"

OF_HARNESS = {"gate": GATE, "fetch": NETWORK, "mix": TIMES, "selftest": TIMES}
NOT_YET: set[str] = set()
"""Commands of ``harness`` that the changelog says are not there."""

NOT_RUN: dict[str, tuple[str, ...]] = {
    LONG: (
        "pytest suites/",
        "pytest tests/calibration",
        "pytest suites/test_calibration.py --models wave -k reinterpret",
        "pytest suites/ --runtime tensorrt-rtx-1.7",
        "pytest suites/ --runtime tensorrt-8.5",
        "pytest suites/ --runtime 'tensorrt-10*'",
        "pytest suites/ --runtime tensorrt-8.5 --runtime tensorrt-8.6",
        "pytest suites/ --runtime 'tensorrt-*'",
        "pytest suites/ --runtime tensorrt-10.16",
        "pytest suites/ --baseline tensorrt-8.6 --candidate tensorrt-10.3 --junitxml gate.xml --gate-report gate.json",
        "pytest suites/ --models vad --methods auto,minmax,percentile99.9,mse --policies ragged,pad",
        "pytest suites/ --models vad,rec --methods auto,minmax --policies ragged,window --layouts buckets3",
        "pytest suites/ --models wave --layouts 1120-80000-160000,160001-320000-480000 --precision fp32,int8",
        "pytest suites/ --matrix full --models text",
        "pytest suites/test_build.py --runtime tensorrt-rtx",
        "pytest suites/ --models vad --precision fp32,int8,int8-mixed --runtime onnxruntime",
        "pytest suites/ --runtime tensorrt-10.16 --require tensorrt-10.16",
    ),
    GATE: (
        "harness gate tensorrt-8.6 tensorrt-10.3 --budget 40m --report gate.json --summary gate.md",
        "harness gate tensorrt-rtx-1.7 tensorrt-rtx-1.4 --models vad --allow-file allow.toml",
        "harness gate tensorrt-rtx-1.7 tensorrt-rtx-1.4 --models vad --allow 'vad-int8-*=trying FP16 alone'",
        "harness gate onnxruntime-1.22 onnxruntime-1.32 --models vad --budget 4m",
        "harness gate old/bin/python new/bin/python --models vad --budget 40s",
        "harness gate old/bin/python new/bin/python --models vad --budget 9m --matrix more.toml",
        "harness gate record:newest:tensorrt-8.6 tensorrt-10.3",
        "harness gate tensorrt-8.6 tensorrt-10.3 --models encoder",
        "harness gate tensorrt-8.6 tensorrt-10.3",
        "harness gate tensorrt-8.6 tensorrt-10.3 --models wave --budget 1h --thorough --report gate.json",
        "harness gate record:newest tensorrt-10.3 --summary gate.md",
    ),
    NETWORK: (
        "harness fetch",
        "harness fetch vad wave",
    ),
    TIMES: (
        "harness explain vad --best --goal speedup=3",
        "harness selftest --minutes 10 --noise",
        "harness selftest",
        "harness selftest --minutes 60 --noise",
        "harness mix vad --bound score=0.97",
        "harness mix vad --dialect s8s8 --bound score=0.97 -o vad.mixed.onnx",
    ),
    HOSTS: (
        "pytest suites/ --runtime tensorrt-8.6@gpu1",
        "pytest suites/ --runtime old",
        "pytest suites/ --runtime 'tensorrt-*@gpu*'",
        "pytest suites/ --runtime 'tensorrt-8.6@gpu*' --spread -n 4",
    ),
    ASKS: ("harness results prune --older-than 90d --yes",),
    INSTALLS: (
        "python -m pip install tox",
        "python -m tox run -e suites",
        "python -m tox run -e tests",
        "pip install -e '.[report,suites]'",
        "python -m pip install -e '.[report,suites]' tox ruff mypy",
        "python -m tox run -e lint",
        "python -m tox run -e docs",
        "python -m tox run -e rtx17 --notest",
        "python -m tox run -e bench -- accuracy --models vad --corpora 1",
        "python -m tox run -e genuine",
        "python -m tox run -e ort122",
        "python -m tox run -e trt85",
        "python -m tox run -e trt1016",
        "python -m tox run -e bench -- accuracy",
        "python -m tox run -e bench -- policies",
    ),
    THEIRS: (
        "python -m venv .venv",
        ". .venv/bin/activate",
        ".ci/run",
        "ruff check .",
        "ruff format .",
        "mypy",
        (
            "docker run --rm --gpus all --ipc host -v '$PWD:/work' -w /work -v /var/cache/trt-int8-harness:/cache "
            "-e TRT_INT8_HARNESS_CACHE=/cache -e EXPECTED=10.7.0 -e RUNTIMES=tensorrt-10.7.0 "
            "'$TENSORRT_IMAGE:24.12-py3' docs/ci/container.sh docs/ci/nightly.sh"
        ),
        "export HARNESS_TRT_INDEX=...",
        "export HARNESS_PYCUDA=/wheels/pycuda-2026.1-cp310-cp310-linux_x86_64.whl",
    ),
}
