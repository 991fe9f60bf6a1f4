"""SOAP against what its definition implies."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from iarn_basicsr.ops.soap import SOAP


def descend(weight: Tensor, goal: Tensor, left: Tensor, right: Tensor, steps: int, **options) -> Tensor:
    """The weight after steps on half the squared distance of left @ weight @ right from the goal."""
    p = nn.Parameter(weight.clone())
    optimizer = SOAP([p], **options)
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (left @ p.flatten(1) @ right - goal).square().sum()).backward()
        optimizer.step()
    return p.detach()


def orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q


def test_first_move_is_the_orthogonal_factor_of_the_gradient():
    """With L = G G^T and R = G^T G the rotated gradient is diagonal, and Adam makes every singular value 1."""
    torch.manual_seed(0)
    goal, eye = torch.randn(5, 5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    u, _, v = torch.linalg.svd(goal)
    moved = descend(torch.zeros_like(goal), goal, eye, eye, steps=2, lr=0.25, refresh=1)
    torch.testing.assert_close(moved, 0.25 * u @ v, atol=1e-4, rtol=0)


@pytest.mark.parametrize('refresh', [1, 3])
def test_course_does_not_depend_on_the_axes(refresh):
    """Adam's own course does: turned coordinates give another one."""
    torch.manual_seed(1)
    weight, goal = (torch.randn(6, 2, 3, dtype=torch.float64) for _ in range(2))
    left, right = (torch.randn(6, 6, dtype=torch.float64) for _ in range(2))
    a, b = orthogonal(6), orthogonal(6)
    options = {'steps': 14, 'lr': 0.05, 'refresh': refresh, 'betas': (0.8, 0.9), 'decay': 0.9}
    plain = descend(weight, goal.flatten(1), left, right, **options)
    turned = descend((a.T @ weight.flatten(1) @ b).view_as(weight), goal.flatten(1), left @ a, b.T @ right, **options)
    assert (plain - weight).abs().max() > 0.1
    torch.testing.assert_close((a @ turned.flatten(1) @ b.T).view_as(plain), plain, atol=1e-4, rtol=0)


def test_bases_that_change_places_take_their_averages_along():
    """Diagonal gradients need no other axes, so this is Adam on the diagonal, also when the second becomes larger."""
    ours, theirs = (nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((2, 2), 2))
    soap = SOAP([ours], lr=0.1, refresh=2, decay=0.5)
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for k in range(12):
        diagonal = torch.tensor([3.0, 1 + k % 2] if k < 6 else [0.3, 5.0 - k % 3], dtype=torch.float64)
        ours.grad, theirs.grad = torch.diag(diagonal), diagonal
        soap.step()
        if k >= 2:
            adam.step()
    torch.testing.assert_close(ours, torch.diag(theirs), atol=1e-6, rtol=0)


def test_bases_follow_the_gradients():
    torch.manual_seed(4)
    p = nn.Parameter(torch.zeros(5, 5, dtype=torch.float64))
    soap, strengths = SOAP([p], refresh=3, decay=0.9), torch.diag(10.0 ** -torch.arange(5, dtype=torch.float64))
    for _ in range(2):  # first along one set of axes, then along another
        a, b = orthogonal(5), orthogonal(5)
        for _ in range(150):
            p.grad = a @ strengths @ torch.randn_like(p) @ strengths @ b
            soap.step()
    left, right = soap.state[p]['bases']
    for found, expected in ((left, a), (right, b.T)):
        assert (found.T @ expected).diagonal().abs().min() > 0.98


def test_vectors_get_adam():
    torch.manual_seed(2)
    ours, theirs = (nn.Parameter(torch.ones(7, dtype=torch.float64)) for _ in range(2))
    soap, adam = SOAP([ours], lr=0.1, refresh=2), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for k, grad in enumerate(torch.randn(9, 7, dtype=torch.float64)):
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        soap.step()
        if k >= 2:  # the first two steps only gather
            adam.step()
        else:
            assert torch.equal(ours, torch.ones_like(ours))
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize('done', [1, 4, 5])
def test_resumed_from_a_state_it_goes_on_to_the_bit(done):
    torch.manual_seed(3)
    net = nn.Conv2d(3, 4, 3)
    optimizer, image = SOAP(net.parameters(), lr=1e-2, refresh=2), torch.randn(2, 3, 8, 8)

    def step(net: nn.Module, optimizer: SOAP) -> None:
        optimizer.zero_grad()
        net(image).square().mean().backward()
        optimizer.step()

    for _ in range(done):
        step(net, optimizer)
    again = copy.deepcopy(net)
    resumed = SOAP(again.parameters(), lr=1, refresh=7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(4):
        step(net, optimizer)
        step(again, resumed)
    assert torch.equal(net.weight, again.weight)
    assert torch.equal(net.bias, again.bias)


@pytest.mark.parametrize('options', [{'refresh': 0}, {'refresh': 2.5}, {'decay': 1}, {'decay': -0.1}])
def test_values_out_of_range(options):
    (key, value), = options.items()
    with pytest.raises(ValueError, match=f'^{key}: {value}; expected'):
        SOAP([nn.Parameter(torch.ones(2))], **options)


def test_inputs_that_carry_nothing_move_nothing():
    """Most eigenvalues are zero then, and LAPACK may not find float32 eigenvectors (one seed in six, with MKL)."""
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        live = torch.randperm(162, generator=generator)[:45]
        p = nn.Parameter(torch.zeros(32, 162))
        optimizer = SOAP([p], lr=0.1)
        for _ in range(21):
            p.grad = torch.zeros_like(p)
            p.grad[:, live] = 1e-4 * torch.randn(32, 45, generator=generator) * torch.logspace(0, -2, 45)
            optimizer.step()
        moved = p.detach().abs().amax(0)
        assert moved[live].min() > 1e-3
        moved[live] = 0
        assert moved.max() < 1e-5
