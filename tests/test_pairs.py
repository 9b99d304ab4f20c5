import pytest
import torch
import torch.nn.functional as F

from conftest import SIZES
from graphvae.layout import Layout
from graphvae.pairs import sigmoid_sum, softplus_sum
from graphvae.softplus_tile import SoftplusTile
from graphvae.tiles import TILE


def dense_reference(left, right, bias, layout, directed, function):
    """The same sum from N x N matrices, graph by graph."""
    sums = []
    for start, stop in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
        scores = left[start:stop] @ right[start:stop].T + bias
        keep = ~torch.eye(stop - start, dtype=torch.bool)
        sums.append(function(scores)[keep if directed else keep.triu(1)].sum())
    return torch.stack(sums)


def inputs(layout, dim=4):
    left = torch.randn(layout.num_rows, dim, requires_grad=True)
    right = torch.randn(layout.num_rows, dim, requires_grad=True)
    return left, right, torch.tensor(-1.5, requires_grad=True)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{max(sizes)}")
def test_value_and_gradient_equal_the_dense_ones(sizes, directed):
    layout = Layout.of(sizes)
    arguments = inputs(layout)
    upstream = torch.randn(layout.num_graphs)
    value = softplus_sum(*arguments, layout, directed)
    dense = dense_reference(*arguments, layout, directed, lambda s: F.softplus(s, threshold=100))
    torch.testing.assert_close(value, dense, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(value @ upstream, arguments)
    theirs = torch.autograd.grad(dense @ upstream, arguments)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        sigmoid_sum(*arguments, layout, directed),
        dense_reference(*arguments, layout, directed, torch.sigmoid),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.usefixtures("double")
def test_gradcheck():
    layout = Layout.of([4, 1, 3])
    assert torch.autograd.gradcheck(lambda *a: softplus_sum(*a, layout), inputs(layout, dim=2))


def test_float32_agrees_with_float64_to_rounding():
    layout = Layout.of([1500])
    arguments = inputs(layout, dim=16)
    double = [argument.detach().double().requires_grad_() for argument in arguments]
    single_value, double_value = softplus_sum(*arguments, layout), softplus_sum(*double, layout)
    torch.testing.assert_close(single_value.double(), double_value, rtol=2e-7, atol=0)
    single = torch.autograd.grad(single_value, arguments)
    for mine, exact in zip(single, torch.autograd.grad(double_value, double), strict=True):
        assert ((mine.double() - exact).norm() / exact.norm()).item() < 1e-6


@pytest.mark.parametrize("score", [-200.0, -30.0, 17.0, 25.0, 60.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_keep_value_and_gradient(score, dtype):
    # A probability computed first would saturate: log(1 - sigmoid(17) + 1e-15) has gradient zero in float32.
    h = torch.ones(2, 1, dtype=dtype)
    bias = torch.tensor(score - 1, dtype=dtype, requires_grad=True)
    value = softplus_sum(h, h, bias, Layout.single(2))
    exact = torch.tensor(score, dtype=torch.float64)
    expected = torch.logaddexp(exact, torch.zeros_like(exact))
    # The exponential of a score that is rounded to a relative eps has a relative error of |score| eps.
    rtol = (1 + min(abs(score), 90)) * torch.finfo(dtype).eps
    torch.testing.assert_close(value[0].double(), expected, rtol=rtol, atol=1e-30)
    value.backward()
    torch.testing.assert_close(bias.grad.double(), exact.sigmoid(), rtol=rtol, atol=1e-30)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("bias", [-14.0, -5.0, 0.0, 8.0])
def test_float32_keeps_its_digits_in_sparse_and_in_dense_graphs(spread, bias):
    """The logarithm of a product of many factors near one, or of one near overflow, is where digits would be lost."""
    layout = Layout.of([600, 40, 9])
    left = (spread * torch.randn(649, 8)).requires_grad_()
    offset = torch.tensor(bias, requires_grad=True)
    double = [argument.detach().double().requires_grad_() for argument in (left, offset)]
    value = softplus_sum(left, left, offset, layout)
    exact = dense_reference(double[0], double[0], double[1], layout, False, lambda s: F.softplus(s, threshold=100))
    torch.testing.assert_close(value.double(), exact, rtol=2e-6, atol=0)
    single = torch.autograd.grad(value.sum(), (left, offset))
    for mine, theirs in zip(single, torch.autograd.grad(exact.sum(), double), strict=True):
        assert ((mine.double() - theirs).norm() / theirs.norm()).item() < 2e-6


def test_nan_and_infinite_scores_are_not_hidden():
    for bad in (torch.nan, torch.inf):
        h = torch.ones(3, 1)
        assert not softplus_sum(h, h, torch.tensor(bad), Layout.single(3)).isfinite().any()


def test_value_without_gradient_equals_that_with():
    layout = Layout.of([700, 30, 3])
    left, right, bias = inputs(layout)
    with torch.no_grad():
        value = softplus_sum(left, right, bias, layout)
    assert torch.equal(value, softplus_sum(left, right, bias, layout))
    assert not value.requires_grad


def test_a_padded_tile_never_reads_another_graph():
    layout = Layout.of([3, 2])
    h = torch.randn(5, 2)
    h[3:] = torch.nan
    clean = h.clone().requires_grad_()
    value = softplus_sum(clean, clean, torch.tensor(0.0), layout)
    value[0].backward()
    assert value[0].isfinite()
    assert clean.grad[:3].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    h = torch.randn(40, 8).to(dtype).requires_grad_()
    layout = Layout.single(40)
    value = softplus_sum(h, h, torch.tensor(-2.0, dtype=dtype), layout)
    exact = softplus_sum(h.double(), h.double(), torch.tensor(-2.0, dtype=torch.float64), layout)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    value.backward()
    assert h.grad.dtype == dtype


@pytest.mark.parametrize("sizes", [[600], [5, 9]])
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, True), (False, False, True)])
def test_gradients_that_are_not_wanted_are_left_out(sizes, wanted):
    layout = Layout.of(sizes)
    arguments = inputs(layout)
    every = torch.autograd.grad(softplus_sum(*arguments, layout).sum(), arguments)
    some = [argument.detach().requires_grad_(want) for argument, want in zip(arguments, wanted, strict=True)]
    softplus_sum(*some, layout).sum().backward()
    for argument, gradient, want in zip(some, every, wanted, strict=True):
        assert argument.grad is None if not want else torch.equal(argument.grad, gradient)


def test_types_are_promoted():
    h, layout = torch.randn(600, 4), Layout.single(600)
    double = softplus_sum(h.double(), h.double(), torch.tensor(-2.0, dtype=torch.float64), layout)
    mixed = softplus_sum(h, h.double(), torch.tensor(-2.0), layout)
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, double, rtol=1e-12, atol=0)


def test_autocast_does_not_coarsen_the_sum():
    h = torch.randn(40, 8)
    exact = softplus_sum(h, h, torch.tensor(0.0), Layout.single(40))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(softplus_sum(h, h, torch.tensor(0.0), Layout.single(40)), exact)


def test_the_other_devices_tiles_agree(monkeypatch):
    """What a device runs that must not be asked for the largest score of every tile."""
    layout = Layout.of([700, 30, 3])
    arguments = inputs(layout)
    fast = softplus_sum(*arguments, layout)
    gradients = torch.autograd.grad(fast.sum(), arguments)
    monkeypatch.setattr(SoftplusTile, "_growth", lambda self, scores: None)
    robust = softplus_sum(*arguments, layout)
    torch.testing.assert_close(fast, robust, rtol=1e-6, atol=0)
    for one, other in zip(gradients, torch.autograd.grad(robust.sum(), arguments), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_no_tensor_has_more_than_a_tile_of_scores():
    """Memory is O(N·D) plus a tile: no operation in forward or backward makes anything near N x N."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (list, tuple)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
            return result

    h = torch.randn(6000, 4, requires_grad=True)
    with Largest() as largest:
        softplus_sum(h, h, torch.tensor(-3.0), Layout.single(6000)).backward()
    assert largest.numel <= TILE**2
    small = Layout.of([9] * 5000)
    h = torch.randn(45000, 4, requires_grad=True)
    with Largest() as largest:
        softplus_sum(h, h, torch.tensor(-3.0), small).sum().backward()
    assert largest.numel <= TILE**2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    layout = Layout.of([700, 5, 5, 2])
    arguments = inputs(layout)
    moved = [argument.detach().cuda().requires_grad_() for argument in arguments]
    value, there = softplus_sum(*arguments, layout), softplus_sum(*moved, layout.to("cuda"))
    torch.testing.assert_close(value, there.cpu(), rtol=1e-5, atol=1e-4)
    for mine, other in zip(
        torch.autograd.grad(value.sum(), arguments), torch.autograd.grad(there.sum(), moved), strict=True
    ):
        torch.testing.assert_close(mine, other.cpu(), rtol=1e-4, atol=1e-4)
