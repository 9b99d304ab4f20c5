"""Normal rows of one shape are torch's, to the bit."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from graphvae.families import ZeroOneNormal, normal


def _parameters():
    loc, scale = torch.randn(7, 3, requires_grad=True), (torch.rand(7, 3) + 0.1).requires_grad_()
    return loc, scale


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_values_draws_and_gradients_are_torchs(dtype):
    results = []
    for kind in (Normal, normal):
        torch.manual_seed(0)
        loc, scale = (p.detach().to(dtype).requires_grad_() for p in _parameters())
        q = kind(loc, scale)
        draws = [
            q.rsample(),
            q.rsample(torch.Size([2, 4])),
            q.sample((5,)),
            q.log_prob(loc + 1),
            q.entropy(),
            q.cdf(loc),
        ]
        sum(draw.sum() for draw in draws).backward()
        results.append([*draws, q.mean, q.stddev, loc.grad, scale.grad, torch.rand(2)])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [Normal, normal])
def test_divergence_from_the_standard_normal_is_torchs(kind):
    results = []
    for standard in (Normal, ZeroOneNormal):
        torch.manual_seed(0)
        loc, scale = _parameters()
        value = kl_divergence(kind(loc, scale), standard(torch.zeros(7, 3), torch.ones(7, 3)))
        (value * torch.rand(7, 3)).sum().backward()
        results.append([value, loc.grad, scale.grad])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    other = ZeroOneNormal(torch.zeros(7, 3), torch.ones(7, 3))
    assert torch.equal(kl_divergence(other, kind(loc, scale)), kl_divergence(Normal(0 * loc, 1.0), Normal(loc, scale)))


def test_expanding_gives_torchs_normal():
    larger = ZeroOneNormal(torch.zeros(7, 3), torch.ones(7, 3)).expand((4, 7, 3))
    assert type(larger) is Normal
    assert larger.sample().shape == (4, 7, 3)


def test_divergence_in_half_precision_is_summed_up_in_single():
    loc, scale = 0.1 * torch.randn(500, 4), 1 + 0.1 * torch.rand(500, 4)
    standard = ZeroOneNormal(torch.zeros(500, 4), torch.ones(500, 4))
    halves = loc.bfloat16(), scale.bfloat16()
    found = kl_divergence(normal(*halves), standard)
    assert found.dtype == torch.float
    expected = kl_divergence(Normal(*(half.double() for half in halves)), Normal(0.0, 1.0))
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_divergence_of_other_widths_is_refused():
    with pytest.raises(ValueError, match=r"as many latents as the encoder gives, got \(7, 1\) and \(7, 3\)"):
        kl_divergence(normal(*_parameters()), ZeroOneNormal(torch.zeros(7, 1), torch.ones(7, 1)))
