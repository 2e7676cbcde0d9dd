"""A worker: the process in another interpreter where everything native happens. Its crash is a result."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import execnet

from harness.errors import (
    BuildFailed,
    EnvironmentMissing,
    HarnessError,
    HostLost,
    UsageError,
    WorkerDied,
    WorkerError,
    WorkerHung,
    WriteFailed,
    from_remote,
)
from harness.paths import cache_dir, written
from harness.runtimes.scratch import sweep
from harness.workers import bootstrap, ending, engines, here, ssh, store
from harness.workers.remote_engine import RemoteEngine
from harness.workers.signs import check_signs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from harness.workers.environments import Environment

__all__ = ["Worker"]

_CHUNK_BYTES = 4 << 20
_START_DEADLINE_S = 60.0
# Libraries below the runtime have thread pools of their own; the runtime's threads are an option of its engine.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_serial = itertools.count(1)


class Worker:
    """A process that runs ``harness/runtimes`` in an environment's interpreter, and nothing else of ours.

    Starts when it is made; use it as a context manager, or :meth:`close` it. Every call has a deadline: a worker
    that does not answer in time is killed (:class:`WorkerHung`), one that ends during a call is noticed at once
    (:class:`WorkerDied`, with signal or exit code and the end of its log). After either, calls are refused until
    :meth:`restart`. Not for use by two threads at a time. ``logs`` are those of all its processes, the newest last;
    that of one that ended well is removed.

    An environment with a ``host`` has its worker there, started by ssh (:mod:`harness.workers.ssh`). It has that host's
    cache folder, and is sent what it lacks there; its log is here.

    :param log_dir: where its output is kept; without one, in the cache, and removed again when it ends well.
    :param deadline_s: for every call that does not name its own.
    :param cache: the worker's own cache folder, when it is not the coordinator's: files are then sent to it.
    :raises EnvironmentMissing: the interpreter is not there, or lacks numpy; or its host cannot be reached.
    """

    def __init__(
        self,
        environment: Environment,
        log_dir: Path | None = None,
        deadline_s: float = 60.0,
        cache: Path | None = None,
    ) -> None:
        self.environment, self.deadline_s = environment, deadline_s
        # One that shares the coordinator's cache has files by being told their names.
        self._shares_cache = cache is None and not environment.host
        self._asked_cache = "" if cache is None and environment.host else str((cache or cache_dir()).absolute())
        self._log_dir = log_dir
        self.pid = 0
        self.generation = 0
        self.logs: list[Path] = []
        self._ended: WorkerError | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return self._ended is None and self._process.poll() is None

    def restart(self) -> None:
        """A new process, whatever became of the old one; its engines are gone."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process, softly if it listens. A second call does nothing."""
        if self._ended is None:
            self._ended = WorkerDied("the worker was closed", where=self.environment.name, todo="start a new one")
            self._hang_up(patience_s=2.0)
            if self._log_dir is None and self._process.returncode == 0:
                self.log.unlink(missing_ok=True)

    def _start(self) -> None:
        self.generation += 1
        self._calls = itertools.count(1)
        self._names: dict[str, str] = {}
        self._description: dict[str, Any] | None = None
        folder = self._log_dir or cache_dir("logs")
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder.resolve() / f"{self.environment.name}-{os.getpid()}-{next(_serial)}.log"
        self.logs.append(self.log)
        self._group = execnet.Group()
        if self.environment.host:
            gateway = ssh.gateway(self.environment, self.log, self._group, _START_DEADLINE_S)
        else:
            gateway = here.gateway(self.environment, self._group)
        # execnet offers no other way to the process, its kill and its exit code
        self._io = cast("Any", gateway._io)  # noqa: SLF001
        self._process: subprocess.Popen[bytes] = self._io.popen
        self._ended = None
        with self._watched("start", _START_DEADLINE_S):
            self._channel = gateway.remote_exec(bootstrap)
            self._hand_over_code()

    def _hand_over_code(self) -> None:
        tree, files = store.code_tree()
        # The kernel's death signal follows the thread that started the process: only the main one lives long.
        in_main_thread = threading.current_thread() is threading.main_thread()
        there = bool(self.environment.host)
        settings = {
            "log": "" if there else str(self.log),
            "parent": os.getpid() if in_main_thread and not there else 0,
            "after": self.pid if there else 0,
            "variables": _THREADS,
            "cache": self._asked_cache,
            "tree": tree,
            "manifest": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "runtime": self.environment.runtime,
        }
        self._channel.send(settings)
        started = self._channel.receive()
        self.pid, self.host, self._cache = int(started["pid"]), str(started["host"]), Path(started["cache"])
        self._channel.send({name: files[name] for name in self._channel.receive()})
        problem = self._channel.receive()
        if problem:
            self._ended = WorkerDied("the worker did not start", where=self.environment.name)
            self._hang_up(patience_s=2.0)
            raise EnvironmentMissing(
                problem, where=f"{self.environment.name} ({self.environment.python})", todo="install numpy there"
            )

    def _hang_up(self, patience_s: float) -> None:
        """Close the channel, which ends the worker's loop, and take its exit status so that no zombie is left."""
        self._group.terminate(timeout=patience_s)
        self._process.wait()

    def pin(self, core: int) -> None:
        """Keep the thread that computes, and any that it starts from now on, on one core of the worker's host.

        :raises WorkerDied: the process is gone.
        """
        if self.environment.host:
            self.call("pin", core)
            return
        try:
            os.sched_setaffinity(self.pid, {core})
        except ProcessLookupError as error:
            raise WorkerDied("it was gone before it was pinned", where=self.environment.name) from error

    def cores(self) -> list[int]:
        """The cores that it may run on, by the numbers of its host."""
        return list(self.call("cores")) if self.environment.host else sorted(os.sched_getaffinity(0))

    def machine(self) -> dict[str, Any]:
        """Its host as it is now: :func:`harness.runtimes.machine.machine`, asked there."""
        return dict(self.call("machine"))

    def describe(self) -> dict[str, Any]:
        """What :meth:`harness.runtimes.base.Runtime.describe` says, once a process."""
        if self._description is None:
            self._description = dict(self.call("describe", dict(self.environment.options)))
        return dict(self._description)

    def put(self, path: Path) -> str:
        """Make one self-contained file known to the worker.

        :returns: its SHA-256, by which the worker has it.
        :raises BuildFailed: the file cannot be read.
        """
        path = Path(path)
        try:
            digest = store.file_digest(path)
        except OSError as error:
            raise BuildFailed(f"cannot be read: {error.strerror or error}", where=str(path)) from error
        if self._shares_cache:
            try:
                store.keep(path, digest)
            except OSError as error:
                raise WorkerError(
                    f"cannot be copied into the cache: {error.strerror or error}",
                    where=str(path),
                    todo=f"make room in {self._cache}, or set TRT_INT8_HARNESS_CACHE to another folder",
                ) from error
        self._names[digest] = str(path)
        if not self.call("has", digest):
            with path.open("rb") as file:
                left = path.stat().st_size
                while True:
                    chunk = file.read(_CHUNK_BYTES)
                    left -= len(chunk)
                    self.call("receive", digest, chunk, left <= 0)
                    if left <= 0:
                        break
        return digest

    def build(
        self,
        source: Path,
        options: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
        *,
        files: Mapping[str, Path] | None = None,
    ) -> tuple[dict[str, Any], Path]:
        """Build an engine of an ONNX file, or take it from the cache if this runtime made it with this code, here.

        :param files: what the build reads beside its source, by role (``cache``, ``batches``).
        :returns: the facts (``seconds``, ``bytes``, ``log``, ``warnings``, ``coverage``, ``cached``), and the file
            to :meth:`load`: the engine, or ``source`` itself for a runtime that executes ONNX.
        :raises BuildFailed: with everything that the runtime said; or TensorRT would take the file's unsigned Q/DQ for
            signed ones. :raises WriteFailed: the engine cannot be kept.

        An engine in the cache that is damaged, or gone, is built again; ``warnings`` say so.
        """
        source, digest = Path(source), self.put(Path(source))
        merged = self._plain({**self.environment.options, **(options or {})})
        if files:
            merged["files"] = {role: self.put(path) for role, path in files.items()}
        key = self._engine_key(digest, merged)
        known = engines.recall(key)
        if known is not None:
            return {**known, "cached": True}, store.blob(known["artefact"])
        if self.environment.runtime.startswith("tensorrt"):
            check_signs(source, f"{self.environment.name}, {source}")
        forgotten = engines.forgotten(key)
        facts = self.call("build", digest, merged, deadline_s=deadline_s, on=str(source))
        if facts["artefact"] == digest:
            return {**facts, "cached": False}, source
        engine = self._fetch(facts["artefact"])
        engines.remember(key, facts)
        warnings = [*facts["warnings"], *([forgotten] if forgotten else [])]
        return {**facts, "warnings": warnings, "cached": False}, engine

    def load(
        self, path: Path, options: Mapping[str, Any] | None = None, deadline_s: float | None = None
    ) -> RemoteEngine:
        """Load an ONNX file or an engine.

        :raises BuildFailed: the file is broken. :raises EnvironmentMissing: it cannot run here.
        """
        digest = self.put(Path(path))
        merged = self._plain({**self.environment.options, **(options or {})})
        handle, inputs, outputs = self.call("load", digest, merged, deadline_s=deadline_s, on=str(path))
        return RemoteEngine(self, handle, str(path), inputs, outputs)

    def _plain(self, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            plain: dict[str, Any] = json.loads(json.dumps(options))
        except TypeError as error:
            raise UsageError(
                f"options must be numbers, texts, lists and dicts: {error}", where=self.environment.name
            ) from None
        return plain

    def _fetch(self, digest: str) -> Path:
        target = store.blob(digest)
        if not store.is_sound(digest):
            try:
                with written(target) as file:
                    seen = hashlib.sha256()
                    while chunk := self.call("fetch", digest, file.tell(), _CHUNK_BYTES):
                        file.write(chunk)
                        seen.update(chunk)
                    if seen.hexdigest() != digest:
                        raise WorkerError("a file was damaged on its way from the worker", where=self.environment.name)
            except OSError as error:
                raise WriteFailed(
                    f"the engine cannot be kept: {error.strerror or error}",
                    where=str(target),
                    todo="make room, or set TRT_INT8_HARNESS_CACHE to a folder that has some",
                ) from error
        return target

    def _engine_key(self, digest: str, options: Mapping[str, Any]) -> str:
        environment = self.environment
        code, _ = store.code_tree()  # a build that the runtimes' code makes otherwise is another engine
        tied = self.call("tied_to", options)
        return engines.key_of(environment.runtime, environment.version, code, tied, digest, options)

    def call(self, method: str, *arguments: object, deadline_s: float | None = None, on: str = "") -> Any:  # noqa: ANN401
        """One call of a method of :class:`harness.runtimes.serve.Service`; plain data in and out.

        :param on: the file that it is about, for messages.
        :raises HarnessError: what :func:`harness.errors.from_remote` makes of the worker's answer.
        :raises WorkerHung: no answer within the deadline. :raises WorkerDied: the process ended, now or earlier.
        :raises HostLost: the connection to its host did.
        """
        if self._ended is not None:
            kind = HostLost if isinstance(self._ended, HostLost) else WorkerDied
            raise kind(f"the worker has ended earlier: {self._ended}", todo="restart it, or start a new one")
        number = next(self._calls)
        doing = f"{method}({on})" if on else method
        with self._watched(doing, self.deadline_s if deadline_s is None else deadline_s):
            self._channel.send((number, method, arguments))
            answered, fine, value = self._channel.receive()
            assert answered == number, "answers come in the order of the calls"
        if not fine:
            error = self._error(value, on)
            if value["lost"]:
                self._give_up(value["lost"], doing)
            raise error
        return value

    def _give_up(self, why: str, doing: str) -> None:
        """The process answered, and nothing that is asked of it from now on can work."""
        todo = "restart it, or start a new one"
        self._ended = WorkerDied(f"the worker was ended after {doing}: {why}", where=self.environment.name, todo=todo)
        self._hang_up(patience_s=2.0)

    @contextmanager
    def _watched(self, doing: str, deadline_s: float) -> Iterator[None]:
        """Kill the process when the deadline passes, sending or receiving; turn its end into an error."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._io.kill()

        timer = threading.Timer(deadline_s, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError, execnet.RemoteError) as error:
            self._ended = self._obituary(doing, deadline_s if expired.is_set() else None, error)
            raise self._ended from None
        except HarnessError:
            raise
        except BaseException:  # Ctrl-C, say: the answer is still on its way, so the process is of no more use
            self._io.kill()
            self._ended = WorkerDied(f"{doing} was interrupted", where=self.environment.name, todo="restart the worker")
            self._hang_up(patience_s=0.5)
            raise
        finally:
            timer.cancel()

    def _obituary(self, doing: str, deadline_s: float | None, error: BaseException) -> WorkerError:
        where = f"{self.environment.name}, {doing}"
        if isinstance(error, execnet.RemoteError):  # our own code in there failed; the process would wait for more
            self._io.kill()
            self._hang_up(patience_s=0.5)
            said = str(error).rstrip()
            return WorkerDied(f"the worker gave up: {said.splitlines()[-1]}", where=where, detail=said)
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._io.kill()
        self._hang_up(patience_s=0.5)
        if not self.environment.host:  # there the next worker does it
            sweep(self._asked_cache)
        if deadline_s is not None:
            return WorkerHung(
                f"no answer within {deadline_s:g} s; the worker was killed",
                where=where,
                todo=f"allow it more time, or see {self.log}",
                detail=ending.log_tail(self.log),
            )
        return ending.died(self.environment, where, self._process.returncode, self.log)

    def _error(self, data: Mapping[str, str], on: str) -> HarnessError:
        """The worker knows files by digest; its message should name what the caller gave."""
        named = dict(data)
        for digest, name in self._names.items():
            blob = str(self._cache / "blobs" / digest)
            named = {key: text.replace(blob, name) for key, text in named.items()}
        named["where"] = ", ".join(dict.fromkeys(part for part in (self.environment.name, on, named["where"]) if part))
        return from_remote(named)
