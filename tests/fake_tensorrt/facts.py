"""The dumps of the genuine API in ``tests/data/trt-api``."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "trt-api"


@functools.cache
def versions() -> list[str]:
    """All versions of TensorRT, oldest first; those of TensorRT-RTX are not among them."""
    return sorted((path.stem for path in DATA.glob("*.json") if path.stem[0].isdigit()), key=numbers)


@functools.cache
def rtx_versions() -> list[str]:
    return sorted((path.stem.removeprefix("rtx-") for path in DATA.glob("rtx-*.json")), key=numbers)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.split("."))


def matching(version: str) -> str:
    """The one version that is or starts with this one: ``10.13`` is ``10.13.0.35``, ``rtx-1.7`` is ``rtx-1.7.1.116``.

    :raises KeyError: none or several.
    """
    known = [*versions(), *(f"rtx-{v}" for v in rtx_versions())]
    found = [v for v in known if v == version or v.startswith(version + ".")]
    if len(found) != 1:
        raise KeyError(f"{version}: {len(found)} dumps match, there are {', '.join(known)}")
    return found[0]


@functools.cache
def facts(version: str) -> dict[str, Any]:
    """``version``, ``classes``, ``functions``, ``constants`` of a version; ``rtx-1.7.1.116`` of TensorRT-RTX."""
    found: dict[str, Any] = json.loads((DATA / f"{version}.json").read_text("utf-8"))
    return found


def has(api: dict[str, Any], name: str) -> bool:
    """Whether ``Class``, ``Class.member``, ``Class.Inner.member``, ``function`` or ``constant`` is there.

    A member counts where the class or a base of it lists it.
    """
    if name in api["classes"] or name in api["functions"] or name in api["constants"]:
        return True
    owner, _, member = name.rpartition(".")
    entry = api["classes"].get(owner)
    if entry is None:
        return False
    if any(member in entry.get(kind, ()) for kind in ("methods", "properties", "enum_members")):
        return True
    return any(has(api, f"{base}.{member}") for base in entry.get("bases", ()))


def signatures(api: dict[str, Any], name: str) -> list[str]:
    """The overloads of ``Class.method``, by the class or a base of it; empty for anything else."""
    owner, _, member = name.rpartition(".")
    entry = api["classes"].get(owner, {})
    found: list[str] = entry.get("methods", {}).get(member, [])
    for base in () if found else entry.get("bases", ()):
        found = found or signatures(api, f"{base}.{member}")
    return found


def parameters(signature: str) -> list[tuple[str, bool]]:
    """Name of each parameter without ``self``, and whether it has to be given."""
    depth, last, parts = 0, 1, []
    for index, letter in enumerate(signature):
        depth += (letter in "([<{") - (letter in ")]}" or (letter == ">" and signature[index - 1] != "-"))
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts.append(signature[last:index].strip())
            last = index + 1
            if depth == 0:
                break
    return [(part.partition(":")[0].strip(), " = " not in part) for part in parts[1:]]
