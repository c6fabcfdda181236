"""Muon against PyTorch's own, and against what it promises."""

import copy

import pytest
import torch
from torch import nn

from d2lext.train.muon import Muon, orthogonal
from tests.common import flat, seeded


@pytest.mark.parametrize("shape", [(16, 27), (27, 16), (8, 8)])
def test_singular_values_end_near_one(shape) -> None:
    G = torch.randn(shape, generator=seeded())
    G = 1e3 * G @ torch.diag(torch.logspace(0, 1, shape[1]))
    X = orthogonal(G, steps=10)
    s = torch.linalg.svdvals(X)
    assert s.min() > 0.6 and s.max() < 1.3 and X.shape == shape
    half = orthogonal(G, half=True)
    assert half.dtype == G.dtype and abs(half - orthogonal(G)).max() < 0.05


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9")
def test_steps_equal_pytorchs_on_flattened_filters() -> None:
    """Up to bfloat16, in which PyTorch's iterates; the scaling of weights is ours."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(8, 3, 3, 3))
    q = nn.Parameter(p.detach().flatten(1).clone())
    ours = Muon([{"params": [p], "momentum": 0.6}], lr=0.1)
    how = {"momentum": 0.6, "weight_decay": 0, "ns_steps": 3, "lr": 0.1}
    theirs = torch.optim.Muon([q], **how)
    for _ in range(4):
        with torch.no_grad():
            q.mul_(len(q) ** 0.5 / q.norm())
        p.grad = torch.randn_like(p)
        q.grad = p.grad.flatten(1).clone()
        ours.step()
        theirs.step()
    assert (p.flatten(1) - q).abs().max() < 0.01


def test_other_groups_are_adamws_and_the_state_survives() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    resumed, linear = copy.deepcopy(net), copy.deepcopy(net[2])

    def muon(net):
        filters = {"params": [net[0].weight], "momentum": 0.6, "lr": 0.1}
        return Muon([filters, {"params": list(net[2].parameters())}], lr=0.01)

    def step(net, trainer, X):
        trainer.zero_grad()
        net(X).square().sum().backward()
        trainer.step()

    trainer, saved = muon(net), muon(resumed).state_dict()
    adamw = torch.optim.AdamW(linear.parameters(), lr=0.01)
    for _ in range(4):
        X = torch.randn(2, 3, 3, 3)
        step(linear, adamw, net[:2](X).detach())
        step(net, trainer, X)
        again = muon(resumed)
        again.load_state_dict(saved)
        step(resumed, again, X)
        saved = copy.deepcopy(again.state_dict())
    torch.testing.assert_close(net[2].weight, linear.weight)
    assert torch.equal(flat(resumed), flat(net))
