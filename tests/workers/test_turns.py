"""Turns of processes: what must not be at once is not, whoever comes first; what may be at once is."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.workers.places import Place
from harness.workers.turns import Turns

CPU, GPU0, GPU1 = (Place("", device) for device in ("CPU", "GPU 0", "GPU 1"))
FAR0, FAR1 = Place("gpu1", "GPU 0"), Place("gpu1", "GPU 1")


class Watch:
    """Who is in now, and what was in at once that must not be."""

    def __init__(self):
        self.now, self.wrong = [], []
        self._lock = threading.Lock()

    def enters(self, what):
        with self._lock:
            self.wrong += [(what, other) for other in self.now if _forbidden(what, other) or _forbidden(other, what)]
            self.now.append(what)

    def leaves(self, what):
        with self._lock:
            self.now.remove(what)


def _forbidden(one, other):
    (how, place), (too, there) = one, other
    if how != "timing":
        return False
    if not place.host:  # this machine has a part in everything
        return too == "working" or bool(there.host) or "CPU" in {place.device, there.device} or place == there
    return place == there or (place.host == there.host and too == "working")


def test_whoever_comes_nothing_runs_beside_what_is_timed(tmp_path):
    watch, all_places = Watch(), (CPU, GPU0, GPU1, FAR0, FAR1)

    def goes(seed):
        turns, drawn = Turns(tmp_path), random.Random(seed)
        for _ in range(40):
            place = drawn.choice(all_places)
            with turns.working(place.host):
                watch.enters(("working", place))
                watch.leaves(("working", place))
                if drawn.random() < 0.5:
                    with turns.timing(place):
                        watch.enters(("timing", place))
                        threading.Event().wait(0.001)
                        watch.leaves(("timing", place))
                watch.enters(("working", place))
                threading.Event().wait(0.001)
                watch.leaves(("working", place))

    with ThreadPoolExecutor(6) as pool:
        for one in [pool.submit(goes, seed) for seed in range(6)]:
            one.result(timeout=60)
    assert watch.wrong == []


def _may_be_at_once(tmp_path, one, other):
    """Both are in, the second in a thread: a turn that is not given fails the test instead of hanging it."""
    came = threading.Event()

    def comes():
        with other(Turns(tmp_path)):
            came.set()

    with one(Turns(tmp_path)):
        threading.Thread(target=comes, daemon=True).start()
        assert came.wait(30)


@pytest.mark.parametrize(("one", "other"), [(FAR0, FAR1), (GPU0, GPU1), (FAR0, Place("gpu2", "CPU"))])
def test_two_gpus_and_two_hosts_are_timed_at_once(tmp_path, one, other):
    _may_be_at_once(tmp_path, lambda turns: turns.timing(one), lambda turns: turns.timing(other))


@pytest.mark.parametrize(("one", "other"), [("", ""), ("", "gpu1"), ("gpu1", "gpu1"), ("gpu1", "gpu2")])
def test_work_goes_on_beside_work(tmp_path, one, other):
    _may_be_at_once(tmp_path, lambda turns: turns.working(one), lambda turns: turns.working(other))


@pytest.mark.parametrize("host", ["", "gpu2"])
def test_work_goes_on_beside_what_another_host_times(tmp_path, host):
    _may_be_at_once(tmp_path, lambda turns: turns.timing(FAR0), lambda turns: turns.working(host))
    _may_be_at_once(tmp_path, lambda turns: turns.working(host), lambda turns: turns.timing(FAR0))


@pytest.mark.parametrize("device", ["GPU MIG-GPU-8932f937/1/0", "GPU ../0", "GPU " + 300 * "x", "GPU \u00e4"])
def test_a_device_may_have_any_name(tmp_path, device):
    """As CUDA_VISIBLE_DEVICES names it, which becomes no path."""
    folder = tmp_path / "turns"
    folder.mkdir()
    with Turns(folder).timing(Place("gpu1", device)), Turns(folder).timing(Place("gpu1", "GPU 0")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["turns"]


@pytest.mark.parametrize(("one", "other"), [(FAR0, FAR0), (GPU0, GPU0), (CPU, GPU0), (GPU0, CPU), (CPU, FAR0)])
def test_what_would_disturb_waits(tmp_path, one, other):
    timed, waits = threading.Event(), Turns(tmp_path)

    def time_it():
        with waits.timing(other):
            timed.set()

    with Turns(tmp_path).timing(one):
        thread = threading.Thread(target=time_it)
        thread.start()
        assert not timed.wait(0.1)
    thread.join(30)
    assert timed.is_set()


def test_a_process_pauses_its_own_work_while_it_times(tmp_path):
    mine, others, worked = Turns(tmp_path), Turns(tmp_path), threading.Event()

    def work():
        with others.working("gpu1"):
            worked.set()

    with mine.working("gpu1"):
        with mine.timing(FAR0):
            thread = threading.Thread(target=work)
            thread.start()
            assert not worked.wait(0.2), "somebody worked on the host that was timed"
        thread.join(30)
        assert worked.is_set()
        waits = threading.Thread(target=lambda: others.timing(FAR1).__enter__(), daemon=True)
        waits.start()
        waits.join(0.2)
        assert waits.is_alive(), "it works again, and nothing is timed beside it"


def test_a_killed_process_gives_back_what_it_held(tmp_path):
    program = (
        "import pathlib, sys, time\nfrom harness.workers.turns import Turns\nfrom harness.workers.places import Place\n"
        f"with Turns(pathlib.Path({str(tmp_path)!r})).timing(Place('gpu1', 'GPU 0')):\n    print('in', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        process.kill()
    with Turns(tmp_path).timing(FAR0), Turns(tmp_path).working(""):
        pass


def test_a_run_of_one_process_waits_for_nobody():
    with Turns().working(""), Turns().timing(CPU), Turns().timing(CPU):
        pass
