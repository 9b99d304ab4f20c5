r"""r(π | G): distributions over node orders that depend on the graph, as factors called `ordering(graphs)`.

An ordering distribution serves the bounds of models that are not equivariant: the better it concentrates on the orders
under which the model finds the graph likely, the tighter they are. All of these move with the nodes: a relabelled graph
has the relabelled orders with the same probabilities. Ties are broken at random, and that is counted.

`refine=True` breaks ties by the colours of colour refinement first, and leaves fewer orders, of which few make a bound.
But which of two colours comes first means nothing: it is the same for graphs that have both, and chance for a graph
with new ones, which a decoder has not learned to expect. So it is for graphs a model knows, and off by default.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import Linear

from graphvae import colours
from graphvae.backbones import run_backbone
from graphvae.graphs import Graphs, as_batch, field, has_layout
from graphvae.orders import BlockOrders, MixedOrders, OrderDistribution, PlackettLuceOrders, SortedOrders, check_orders
from graphvae.spectra import fiedler_classes
from graphvae.structure import Neighbors, components, core_numbers, lexicographic
from graphvae.traversals import BreadthFirstOrders, DepthFirstOrders
from graphvae.validation import check_positive


class Ordering(nn.Module, ABC):
    """A factor that gives a distribution over the orders of the nodes of graphs."""

    @abstractmethod
    def forward(self, graphs: Batch) -> OrderDistribution:
        """The distribution for a batch from `as_batch`; what it takes from the graphs is worked out here, once."""

    def sample(self, graphs: Graphs, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws orders of each graph, for `graphs.relabelled`.

        Args:
            graphs: A PyG graph, batch or list; directed ones as a batch from `as_batch`.
            num_orders: K.
            generator: PyTorch's global generator if None.

        Returns:
            `(K, N)` int64; new node i is old node `orders[k, i]` of the batch.
        """
        check_positive(num_orders=num_orders)
        with torch.no_grad():
            return self(_checked(graphs)).sample(num_orders, generator)

    def log_prob(self, graphs: Graphs, orders: Tensor) -> Tensor:
        """Log-probabilities of orders, in nats, `(K, B)`; minus infinity for one that is never drawn.

        Args:
            graphs: A PyG graph, batch or list; directed ones as a batch from `as_batch`.
            orders: `(K, N)` int64 in batch numbering, each a permutation of the nodes within their graphs.

        Raises:
            ValueError: They are not.
        """
        batch = _checked(graphs)
        check_orders(orders, batch.layout)
        return self(batch).log_prob(orders)


class Uniform(Ordering):
    """Every order alike, probability 1 / n!. Costs a sort."""

    def forward(self, graphs: Batch) -> SortedOrders:
        """As promised by `Ordering`."""
        return SortedOrders(torch.zeros_like(graphs.layout.batch), graphs.layout)


class Degree(Ordering):
    """Nodes by degree, the largest first. Costs a sort of those that tie.

    Args:
        refine: Break ties by refined colour before breaking them at random.

    References:
        Liao et al., "Efficient graph generation with graph recurrent attention networks", 2019, arXiv:1910.00760.
    """

    def __init__(self, refine: bool = False) -> None:
        super().__init__()
        self.refine = refine

    def forward(self, graphs: Batch) -> SortedOrders:
        """As promised by `Ordering`."""
        return SortedOrders(_degree_key(Neighbors(graphs), graphs, self.refine), graphs.layout)


class KCore(Ordering):
    """Nodes by core number, then by degree, the largest first. Costs a sort of those that tie.

    Args:
        refine: Break ties by refined colour before breaking them at random.

    References:
        Liao et al., 2019, arXiv:1910.00760.
    """

    def __init__(self, refine: bool = False) -> None:
        super().__init__()
        self.refine = refine

    def forward(self, graphs: Batch) -> SortedOrders:
        """As promised by `Ordering`."""
        neighbors = Neighbors(graphs)
        key = lexicographic(-core_numbers(neighbors), _degree_key(neighbors, graphs, self.refine))
        return SortedOrders(key, graphs.layout)


class Spectral(Ordering):
    """Connected components by size, the largest first, the nodes of each by their entry of its Fiedler vector.

    The sign is that which makes the vector's skewness positive; if it has none, a fair coin decides. Equal entries tie,
    and so do all components of one size. Where the second eigenvalue is multiple the vector is not determined, and
    nodes are sorted by the diagonal of the projector onto its eigenvectors instead. Costs a dense eigendecomposition of
    every component: cubic in its size.

    References:
        Fiedler, 1973.
    """

    def forward(self, graphs: Batch) -> BlockOrders:
        """As promised by `Ordering`."""
        neighbors = Neighbors(graphs)
        component = components(neighbors)
        classes, signless = fiedler_classes(neighbors, component)
        return BlockOrders(component, -torch.bincount(component), classes, signless, graphs.layout)


class BreadthFirst(Ordering):
    """A breadth-first search from a node of the largest degree, neighbours of larger degree first.

    Components are searched one after another, the largest first. Ties are broken at random: between roots, which may be
    in different components, and between neighbours added to the queue together.

    Args:
        refine: Break ties of degree by refined colour before breaking them at random.

    References:
        You et al., "GraphRNN", 2018, arXiv:1802.08773 (a random root, neighbours in random order); Liao et al., 2019,
        arXiv:1910.00760 (from the largest degree).
    """

    def __init__(self, refine: bool = False) -> None:
        super().__init__()
        self.refine = refine

    def forward(self, graphs: Batch) -> BreadthFirstOrders:
        """As promised by `Ordering`."""
        neighbors = Neighbors(graphs)
        return BreadthFirstOrders(neighbors, _degree_key(neighbors, graphs, self.refine))


class DepthFirst(Ordering):
    """A depth-first search with the roots and preferences of `BreadthFirst`.

    One round for each node of the largest graph, over the nodes of all graphs: quadratic in the size of a graph.

    Args:
        refine: Break ties of degree by refined colour before breaking them at random.

    References:
        Liao et al., 2019, arXiv:1910.00760.
    """

    def __init__(self, refine: bool = False) -> None:
        super().__init__()
        self.refine = refine

    def forward(self, graphs: Batch) -> DepthFirstOrders:
        """As promised by `Ordering`."""
        neighbors = Neighbors(graphs)
        return DepthFirstOrders(neighbors, _degree_key(neighbors, graphs, self.refine))


class PlackettLuce(Ordering):
    r"""A learned ordering: nodes are drawn without replacement, with log-weights from a network on the graph.

    \(\log r(\pi) = \sum_t [s_{\pi_t} - \log \sum_{u \ge t} e^{s_{\pi_u}}]\) for scores s = Linear(backbone(X, A)). An
    equivariant backbone makes it equivariant. Orders are discrete: their gradient is that of the log-probability.

    Args:
        backbone: `(x, edge_index) -> (N, hidden)`, any PyG network.
        hidden: Width of the backbone's output.
        gain: Of the initial weights of the scores. Large, orders are decided from the start. Orders that start out
            nearly uniform teach a decoder that places mean nothing, after which there is nothing to learn for scores.

    References:
        Luce, "Individual choice behavior", 1959; Plackett, "The analysis of permutations", 1975.
    """

    def __init__(self, backbone: nn.Module, hidden: int, gain: float = 10.0) -> None:
        super().__init__()
        check_positive(hidden=hidden)
        self.backbone, self.hidden, self.gain = backbone, hidden, gain
        self.score = Linear(hidden, 1, weight_initializer="glorot", bias_initializer="zeros")
        with torch.no_grad():
            self.score.weight *= gain

    def forward(self, graphs: Batch) -> PlackettLuceOrders:
        """As promised by `Ordering`.

        Raises:
            ValueError: The graphs have no features.
        """
        if graphs.x is None:
            raise ValueError(
                "'graphs' must have node features 'x' for a learned ordering; "
                "torch_geometric.transforms.OneHotDegree or Constant make some"
            )
        rows = run_backbone(self.backbone, graphs.x, graphs.edge_index, graphs.layout, field(graphs, "edge_type"))
        return PlackettLuceOrders(self.score(rows).squeeze(-1), graphs.layout)


class Defensive(Ordering):
    r"""A mixture with the uniform ordering: \(r(\pi) = \epsilon / n! + (1 - \epsilon)\, r_0(\pi)\).

    It gives every order a chance, as an importance weight needs: no weight is more than 1 / ε times that of the uniform
    ordering. Costs both.

    Args:
        ordering: r₀.
        share: ε, of the uniform ordering.
    """

    def __init__(self, ordering: Ordering, share: float = 0.1) -> None:
        super().__init__()
        if not isinstance(ordering, Ordering):
            raise TypeError(f"'ordering' must be an Ordering, such as BreadthFirst(), got {ordering!r}")
        if not 0 < share < 1:
            raise ValueError(f"'share' must lie strictly between 0 and 1, got {share}")
        self.ordering, self.share = ordering, share

    def forward(self, graphs: Batch) -> MixedOrders:
        """As promised by `Ordering`."""
        logs = [math.log(self.share), math.log1p(-self.share)]
        weights = torch.tensor(logs, dtype=torch.float64, device=graphs.layout.ptr.device)
        return MixedOrders([Uniform()(graphs), self.ordering(graphs)], weights, graphs.layout)


def _degree_key(neighbors: Neighbors, graphs: Batch, refine: bool) -> Tensor:
    """`(N,)` int64, 0, 1, ... without gaps: the larger the degree the smaller; then by refined colour if wanted."""
    return lexicographic(-neighbors.degree, *([colours.refined(graphs)] if refine else []))


def _checked(graphs: Graphs) -> Batch:
    """`as_batch(graphs)`; directed graphs must have been through `as_batch`, others are not taken for some."""
    return as_batch(graphs, directed=isinstance(graphs, Batch) and has_layout(graphs))
