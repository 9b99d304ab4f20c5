"""For tests of your own factors and bounds: whether they depend on how the nodes of a graph are numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from graphvae.distributions import drawing_from
from graphvae.edge_distributions import EstimatedEdges
from graphvae.graphs import Graphs, as_batch, relabelled
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.orderings import Uniform
from graphvae.validation import check_positive

_USUAL = "node numbers or places among the inputs, ties broken by index, a network on all nodes of a graph at once"
_ORDERINGS = "if it depends on the order by design, as DenseEdges and Positioned do, use the bounds over orderings"
_POOLING = f"pooling that depends on the order of nodes (SumAggregation does not), {_USUAL}"


@torch.no_grad()
def assert_permutation_invariant(
    target: GraphVAE | Callable[..., Tensor],
    graphs: Graphs,
    noise: Tensor | None = None,
    relabellings: int = 10,
    rtol: float | None = None,
    seed: int = 0,
) -> None:
    """Asserts that relabelling the nodes at random changes nothing it should not, and says which part it changes.

    Of a model every part is tested, in evaluation mode: mean and standard deviation of q(Z | X, A) must move with the
    nodes, or stay if latents are those of whole graphs; the log-probabilities of Z, A and X must stay while latents
    move with the nodes. Then log p(X, A) is invariant, and every bound too of which the noise moves with the nodes. If
    log p(A | Z) is estimated, the exact one is tested. The weights are those it has: where they are all zero, as those
    of a fresh `FreeNormal`, nothing differs.

    A factor alone is tested as a function, with the latents as `noise`:

        assert_permutation_invariant(lambda g, z: edges(z, g.layout).log_prob(g.edge_index), graphs, torch.randn(n, d))

    Args:
        target: A model; or a function of a batch, `graphs -> (B,)`, with `noise` `(graphs, noise) -> (B,)`. Every call
            of a function starts from the same random state.
        graphs: One graph, batch or list; better without symmetry, which hides what depends on the numbering.
        noise: `(N, ...)`, a row per node, which is moved with the nodes: that of `elbo`, for example.
        relabellings: How many.
        rtol: Largest difference allowed, relative to the value, or to 1 if that is smaller (for latents to the largest
            of all). If None, 1e-10 in float64 and 1e-5 otherwise.
        seed: Of relabellings and latents; modes and random state are left as they were.

    Raises:
        AssertionError: A part depends on the numbering; the message says which, how much, and what usually causes it.
        TypeError: A module that is no model.
        ValueError: `graphs` have nothing to relabel, or something is not of the shape stated.
    """
    check_positive(relabellings=relabellings)
    if isinstance(target, nn.Module) and not isinstance(target, GraphVAE):
        raise TypeError(
            f"'target' must be a GraphVAE or a function of graphs, got the module {type(target).__name__}; a factor is "
            "tested as lambda g, z: edges(z, g.layout).log_prob(g.edge_index), with its latents as 'noise'"
        )
    if isinstance(target, GraphVAE):
        if noise is not None:
            raise ValueError("'noise' is for a function; a model is tested at latents drawn from 'seed'")
        with _evaluating(target):
            _check_model(target, _Trial(target.batch(graphs), relabellings, rtol, seed))
    else:
        _check_function(target, _Trial(_undirected_if_possible(graphs), relabellings, rtol, seed), noise)


class _Trial:
    """Graphs and relabelled copies of them, on which the parts of a model are tried."""

    def __init__(self, graphs: Batch, relabellings: int, rtol: float | None, seed: int) -> None:
        if max(graphs.layout.host_sizes) < 2:
            raise ValueError("'graphs' must have a graph of at least two nodes, there is nothing to relabel")
        self.graphs, self.rtol = graphs, rtol
        # A source of its own for every use, so that one call cannot change what the next one draws.
        self.generator = lambda: torch.Generator(graphs.edge_index.device).manual_seed(seed)
        orders = Uniform().sample(graphs, relabellings, self.generator())
        self.copies = [(order, relabelled(graphs, order[None])) for order in orders]

    def check(self, part: Callable[[Batch, Tensor], Tensor], rows: Tensor, failure: str) -> None:
        """Whether `part(graphs, rows)` moves with the nodes when `graphs` and `rows` do; what is per graph stays."""
        before = self._value(part, self.graphs, rows)
        largest = before.new_zeros(())
        for order, copy in self.copies:
            after, expected = self._value(part, copy, self._moved(rows, order)), self._moved(before, order)
            # Equal infinities do not differ; a NaN does.
            change = torch.where(after == expected, 0, (after - expected).abs() / _scale(expected))
            largest = torch.maximum(largest, change.max())
        rtol = self.rtol if self.rtol is not None else 1e-10 if before.dtype == torch.float64 else 1e-5
        if not largest <= rtol:
            raise AssertionError(
                f"{failure}. Largest difference {largest.item():.2g}, allowed are {rtol:.2g}, relative"
            )

    def _value(self, part: Callable[[Batch, Tensor], Tensor], graphs: Batch, rows: Tensor) -> Tensor:
        with drawing_from(self.generator()):
            return part(graphs, rows)

    def _moved(self, rows: Tensor, order: Tensor) -> Tensor:
        return rows[order] if rows.size(0) == self.graphs.layout.num_rows else rows


def _check_model(model: GraphVAE, trial: _Trial) -> None:
    with drawing_from(trial.generator()):
        q = model.posterior(trial.graphs)
    pooled = q.layout.num_rows != trial.graphs.layout.num_rows
    duty = "not change when nodes are relabelled" if pooled else "move with the nodes when they are relabelled"
    for attribute, name in (("mean", "mean"), ("stddev", "standard deviation")):
        if hasattr(q, attribute):
            failure = f"the {name} of the encoder {type(model.encoder).__name__} must {duty}; usual causes: "
            trial.check(partial(_moment, model, attribute), q.mean, failure + (_POOLING if pooled else _USUAL))
    z = torch.randn(q.mean.shape, dtype=q.mean.dtype, device=q.mean.device, generator=trial.generator())
    for name, part, causes in _decoders(model, pooled):
        trial.check(part, z, f"{name} must not change when nodes are relabelled; usual causes: {causes}")


def _moment(model: GraphVAE, attribute: str, graphs: Batch, z: Tensor) -> Tensor:
    moment: Tensor = getattr(model.posterior(graphs), attribute)
    return moment


def _decoders(model: GraphVAE, pooled: bool) -> Iterator[tuple[str, Callable[[Batch, Tensor], Tensor], str]]:
    """The factors of the likelihood that a model has: a name, a function to `(B,)`, and the usual causes of failure."""
    yield "log p(Z) of the prior", lambda g, z: _prior(model.prior, g, z, pooled), "parameters of single nodes"
    edges, features, decoder = model.edges, model.features, model.decoder
    if decoder is not None:
        yield (
            f"log p(n, A, X | z) of the decoder {type(decoder).__name__}",
            lambda g, z: decoder(z).log_prob(g),
            f"places, which are numbered; {_ORDERINGS}",
        )
    if edges is not None:
        yield (
            f"log p(A | Z) of the edge factor {type(edges).__name__}",
            lambda g, z: _exact(edges(z, g.layout)).log_prob(*model.edges_of(g)),
            f"{_USUAL}, scores that are not symmetric; {_ORDERINGS}",
        )
    if features is not None:
        yield (
            f"log p(X | A, Z) of the feature factor {type(features).__name__}",
            lambda g, z: features(z, g.edge_index, g.layout).log_prob(g.x.to_dense()),
            _USUAL,
        )


def _prior(prior: nn.Module, graphs: Batch, z: Tensor, pooled: bool) -> Tensor:
    layout = Layout.singles(graphs.layout.num_graphs, z.device) if pooled else graphs.layout
    log_prob: Tensor = prior(layout).log_prob(z)
    return log_prob


def _exact(edges: Any) -> Any:
    return edges.exact if isinstance(edges, EstimatedEdges) else edges


def _check_function(function: Callable[..., Tensor], trial: _Trial, noise: Tensor | None) -> None:
    layout = trial.graphs.layout
    if noise is not None and noise.size(0) != layout.num_rows:
        raise ValueError(
            f"'noise' must have one row for each of the {layout.num_rows} nodes, got {noise.size(0)}; noise of whole "
            "graphs does not move, let the function hold it"
        )

    def value(graphs: Batch, rows: Tensor) -> Tensor:
        result = function(graphs) if noise is None else function(graphs, rows)
        if not isinstance(result, Tensor) or result.shape != (layout.num_graphs,):
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"'target' must return one number for each of the {layout.num_graphs} graphs, got {got}")
        return result

    random = "" if noise is not None else "noise that does not move with the nodes (give 'noise'), "
    failure = "the value of the function must not change when nodes are relabelled; usual causes: "
    rows = torch.empty(layout.num_rows, 0) if noise is None else noise
    trial.check(value, rows, f"{failure}{random}{_USUAL}; {_ORDERINGS}")


def _scale(values: Tensor) -> Tensor:
    """To which differences are relative: each number per graph by itself, latents all together."""
    finite = values.abs().nan_to_num(posinf=1)
    return (finite if values.dim() == 1 else finite.max()).clamp(min=1)


def _undirected_if_possible(graphs: Graphs) -> Batch:
    try:
        return as_batch(graphs)
    except ValueError:
        return as_batch(graphs, directed=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
