"""Muon: an optimizer whose steps are orthogonal matrices (Keller Jordan, 2024).

https://kellerjordan.github.io/posts/muon/. A gradient of a filter bank has a few large
singular values and many small ones, so plain steps move a few directions only. Muon
sets all singular values near 1, and every direction moves equally far.
"""

import torch

from d2lext.multi_gpu import bf16_is_fast


def orthogonal(G: torch.Tensor, steps: int = 3, half: bool = False) -> torch.Tensor:
    """G (m, n) with its singular values moved to about 1: Newton-Schulz iterations.

    half: multiply by G in bfloat16, as Jordan does; enough for about three steps.
    """
    X = (G.mT if len(G) > G.shape[1] else G) / (G.norm() + 1e-7)
    X = X.bfloat16() if half else X
    A = (X @ X.mT).to(G.dtype)  # a step is a polynomial in A, which is small, times X
    P = Q = _step(A)
    for _ in range(steps - 1):
        A = Q @ A @ Q
        Q = _step(A)
        P = Q @ P
    X = (P.to(X.dtype) @ X).to(G.dtype)
    return X.mT if len(G) > G.shape[1] else X


def _step(A: torch.Tensor) -> torch.Tensor:
    """What makes 3.4445 s - 4.775 s^3 + 2.0315 s^5 of every singular value s."""
    Q = torch.addmm(A, A, A, beta=-4.7750, alpha=2.0315)
    Q.diagonal().add_(3.4445)
    return Q


class Muon(torch.optim.AdamW):
    """Muon for the groups with `momentum`, AdamW for the others; arguments as AdamW's.

    Filters (out, ...) count as matrices (out, rest). As in cifar10-airbench (Jordan,
    arXiv:2404.00498), each is first scaled to the norm sqrt(out); it has no decay.
    """

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"] if "momentum" in group else ():
                if p.grad is not None:
                    self._move(p, group["momentum"], group["lr"])
                    p.grad = None  # so that AdamW passes it by
        super().step()
        return loss

    def _move(self, p: torch.Tensor, momentum: float, lr: float) -> None:
        state = self.state[p]
        if not state:  # AdamW looks for "step" when a state is loaded
            state.update({"step": torch.zeros(()), "mean": torch.zeros_like(p)})
        state["mean"].mul_(momentum).add_(p.grad)
        G = p.grad.add(state["mean"], alpha=momentum)  # Nesterov's
        G = G.movedim(1, -1)  # as in memory, if channels are last: no copies
        step = orthogonal(G.flatten(1), half=bf16_is_fast(p.device)).view(G.shape)
        p.mul_(len(p) ** 0.5 / p.norm())
        p.sub_(step.movedim(-1, 1), alpha=lr)
