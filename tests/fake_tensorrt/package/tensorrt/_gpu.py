"""What an engine has to do with the GPU that it runs on."""

from __future__ import annotations

from typing import Any

import fake_cuda


def misfit(api: Any, plan: dict[str, Any]) -> str:
    """Why a plan does not run on the GPU here; empty if it does."""
    major, minor = here = fake_cuda.SETTINGS["compute_capability"]
    if api.rtx:  # seen with 1.7.1 on compute capability 9.0
        fits = f"SM{major}{minor}" in plan["capabilities"]
        return "" if fits else f"The engine cannot run on this GPU, which has compute capability {major}.{minor}"
    if plan["gpu"] == fake_cuda.SETTINGS["gpu"] and plan["capability"] == here:
        return ""
    return ("6: The engine plan file is generated on an incompatible device, expecting compute "
            f"{major}.{minor} got compute {plan['capability'][0]}.{plan['capability'][1]}, please rebuild.")  # fmt: skip


class RuntimeConfig:
    def __init__(self, api: Any) -> None:
        self.api = api
        self.dynamic_shapes_kernel_specialization_strategy = api.enum(
            "DynamicShapesKernelSpecializationStrategy", "LAZY"
        )
        self.cuda_graph_strategy = api.enum("CudaGraphStrategy", "DISABLED")
