"""A case's engines behind its layout, and which engines stay loaded."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.corpus.samples import length_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Layout
    from harness.workers import RemoteEngine, Worker

__all__ = ["LoadedEngines", "Outputs", "Served"]

Outputs = dict[str, "NDArray[np.generic]"]


@dataclass(frozen=True, eq=False)
class Served:
    """A case's engines behind its layout: the profile is picked by length, anything outside is refused.

    :param engines: one for all profiles, or one for each. They stay loaded as long as this object lives.
    """

    model: Model
    layout: Layout
    engines: tuple[RemoteEngine, ...]

    def engine_for(self, length: int) -> RemoteEngine:
        """:raises LengthOutOfRange: no profile admits ``length``."""
        index = self.layout.dispatch(length)
        return self.engines[index if len(self.engines) > 1 else 0]

    def run(self, feeds: Feeds) -> Outputs:
        """One inference, dispatched by the sample's length.

        :raises LengthOutOfRange: no profile admits it. :raises RunFailed: the runtime refused it.
        """
        return self.engine_for(length_of(self.model, feeds)).run(feeds)


class LoadedEngines:
    """Engines by worker and file. The last few stay loaded, and every one that a living :class:`Served` holds.

    :param kept: how many stay loaded that nobody holds.
    """

    def __init__(self, kept: int = 4) -> None:
        self._kept = kept
        self._engines: OrderedDict[tuple[str, str, int], RemoteEngine] = OrderedDict()
        self._live: weakref.WeakSet[Served] = weakref.WeakSet()

    def serve(self, worker: Worker, files: Iterable[Path], model: Model, layout: Layout) -> Served:
        """The files' engines, loaded unless they are, behind the layout; engines no longer used are closed.

        :raises BuildFailed: a file is broken. :raises EnvironmentMissing: it cannot run here.
        """
        engines = []
        for path in files:
            key = (worker.environment.name, str(path), worker.generation)
            engine = self._engines.pop(key, None) or worker.load(path)
            self._engines[key] = engine
            engines.append(engine)
        served = Served(model, layout, tuple(engines))
        self._live.add(served)
        self._let_go()
        return served

    def clear(self) -> None:
        """Forget all of them; they end with their workers."""
        self._engines.clear()

    def _let_go(self) -> None:
        held = {engine for served in self._live for engine in served.engines}
        spare = [key for key, engine in self._engines.items() if engine not in held]
        for key in spare[: max(0, len(spare) - self._kept)]:
            self._engines.pop(key).close()
