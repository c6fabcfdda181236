"""Muon against PyTorch's own, and against what it promises."""

import copy

import pytest
import torch
from torch import nn

from d2lext.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 27), (27, 16), (8, 8)])
def test_singular_values_end_near_one(shape) -> None:
    torch.manual_seed(0)
    G = torch.randn(shape) @ torch.diag(torch.logspace(0, 1, shape[1]))
    s = torch.linalg.svdvals(orthogonal(G, steps=10))
    assert s.min() > 0.6 and s.max() < 1.3


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_gradients_length_does_not_matter(scale) -> None:
    G = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(scale * G), orthogonal(G), atol=1e-3, rtol=0)


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
    twin = nn.Linear(8, 2)
    twin.load_state_dict(net[2].state_dict())

    def trainer_of(net):
        filters = {"params": [net[0].weight], "momentum": 0.6, "lr": 0.1}
        return Muon([filters, {"params": list(net[2].parameters())}], lr=0.01)

    trainer, adamw = trainer_of(net), torch.optim.AdamW(twin.parameters(), lr=0.01)
    for _ in range(3):
        features = torch.randn(4, 8)
        for layer, optimizer in ((net[2], trainer), (twin, adamw)):
            optimizer.zero_grad()
            layer(features).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(net[2].weight, twin.weight)

    X = torch.randn(2, 3, 3, 3)
    net(X).sum().backward()
    trainer.step()
    again = trainer_of(net)
    again.load_state_dict(copy.deepcopy(trainer.state_dict()))
    before = [p.detach().clone() for p in net.parameters()]
    results = []
    for optimizer in (trainer, again):
        with torch.no_grad():
            for p, old in zip(net.parameters(), before, strict=True):
                p.copy_(old)
        optimizer.zero_grad()
        net(X).sum().backward()
        optimizer.step()
        results.append(net[0].weight.detach().clone())
    assert torch.equal(*results)
