"""LARS: momentum whose step is scaled for each layer by how large its weights are beside their gradient."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, for batches so large that one rate does not fit all layers.

    lr            of the whole network, before the scaling
    weight_decay  added to the gradient, as a multiple of the weight
    trust_coef    η: how far a layer may move, as a share of its norm, while lr is 1
    eps           keeps a gradient of 0 from dividing by 0
    adapt_all     False: biases and the weights of normalisation, which have one dimension at most, take plain steps
                  without weight decay
    source        You et al. 2017 (arXiv 1708.03888), Alg. 1; the exemption of biases and BatchNorm: Chen et al. 2020.
                  A layer whose weights or gradient are 0 takes a plain step.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coef: float = 0.001,
        eps: float = 1e-8,
        adapt_all: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "momentum": momentum, "weight_decay": weight_decay, "trust_coef": trust_coef, "eps": eps,
        }  # fmt: skip
        for name, value in defaults.items():
            if not value >= 0 or (name == "momentum" and value >= 1):
                raise ValueError(f"{name} must be >= 0{' and below 1' if name == 'momentum' else ''}, got {value}")
        super().__init__(params, {"lr": lr, **defaults, "adapt_all": adapt_all})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients at hand."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        update = weight.grad
        assert update is not None
        if group["adapt_all"] or weight.ndim > 1:
            size, slope = weight.norm(), update.norm()
            local = group["trust_coef"] * size / (slope + group["weight_decay"] * size + group["eps"])
            local = torch.where((size > 0) & (slope > 0), local, 1.0)  # decided on the device, without waiting for it
            update = local * (update + group["weight_decay"] * weight)
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        state["momentum_buffer"].mul_(group["momentum"]).add_(update, alpha=group["lr"])
        weight.sub_(state["momentum_buffer"])
