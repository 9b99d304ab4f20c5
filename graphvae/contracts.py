"""Whether the factors of a model fit together, tried out on a few graphs."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph, PointMass
from graphvae.edge_distributions import EdgeDistribution
from graphvae.families import family
from graphvae.graphs import field
from graphvae.model import GraphVAE


@torch.no_grad()
def try_out(model: GraphVAE, few: Batch) -> None:
    """Runs every factor once, so that what does not fit together is said by name before a training.

    The model, its mode and PyTorch's generator are left as they were.

    Args:
        model: To try out.
        few: One of its checked batches.

    Raises:
        ValueError: Shapes do not fit, or an undirected edge factor has scores that are not symmetric.

    Warns:
        UserWarning: The graphs are single nodes, and a backbone gives all of them the same output.
    """
    training = model.training
    stage = f"the encoder and {few.x.size(1)} features"
    try:
        with torch.random.fork_rng([]):
            q = model.eval().posterior(few)
            stage = f"the prior and latents of dimension {q.mean.size(1)}"
            _check_widths(model, q)
            p = model.prior(q.layout)
            check_same_kind(q, p)
            p.log_prob(q.mean)
            stage = f"the decoders and latents of dimension {q.mean.size(1)}"
            model.log_likelihood(few, q.mean)
            _warn_of_lost_inputs(model, few, q.mean)
            if model.orderings is not None:
                stage = f"the ordering and {few.x.size(1)} features"
                r = model.orderings(few)
                r.log_prob(r.sample(1))
            if model.edges is not None and not model.edges.directed and few.edge_index.numel():
                _check_symmetric(model.edges(q.mean, few.layout), few.edge_index)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{stage} do not fit together: {' '.join(str(error).split())}") from error
    finally:
        model.train(training)


def _warn_of_lost_inputs(model: GraphVAE, few: Batch, z: Tensor) -> None:
    """Warns of convolutions that see neighbours only, on graphs that have none."""
    if not few.layout.one_row_each or few.edge_index.size(1):
        return
    for name, rows in (("encoder", few.x), ("features", z)):
        backbone = getattr(getattr(model, name), "backbone", None)
        if backbone is None or rows.size(0) != few.layout.num_rows or not _differ(rows):
            continue
        if not _differ(run_backbone(backbone, rows, few.edge_index, few.layout, field(few, "edge_type"))):
            warnings.warn(
                f"the backbone of '{name}', {type(backbone).__name__}, gives every vector the same output: without "
                "edges a convolution that leaves out the node itself has nothing to see; let it add self loops "
                "(add_self_loops=True) or a root weight (root_weight=True)",
                stacklevel=4,
            )


def _differ(rows: Tensor) -> bool:
    return bool((rows != rows[0]).any())


def check_same_kind(q: PerGraph | PointMass, p: PerGraph) -> None:
    """Checks that encoder and prior both have densities, or both probabilities of the same values.

    Raises:
        TypeError: They have not, so that the two cannot be compared.
    """
    if isinstance(q, PerGraph) and _kind(q) != _kind(p):
        raise TypeError(
            f"'prior' must be of the same kind of latents as the encoder, got {family(p.base)} and {family(q.base)}; a "
            "BernoulliEncoder goes with BernoulliPrior, a CategoricalEncoder with CategoricalPrior, a NormalEncoder "
            "with StandardNormal"
        )


def _kind(part: PerGraph) -> tuple[bool, int]:
    """Whether latents are discrete, and the dimensions of one value if they are: 1 for one-hot rows, 0 for bits."""
    discrete = part.base.has_enumerate_support
    return discrete, len(part.base.event_shape) if discrete else 0


def _check_widths(model: GraphVAE, q: PerGraph | PointMass) -> None:
    """Checks that the prior says as many latents as there are: a width of 1 would fit any by broadcasting."""
    width = getattr(model.prior, "latent", q.mean.size(-1))
    if width != q.mean.size(-1):
        raise ValueError(
            f"'prior' must have as many latents as the encoder gives, got {width} and {q.mean.size(-1)}; give both the "
            "same 'latent'"
        )


def _check_symmetric(edges: EdgeDistribution, edge_index: Tensor) -> None:
    pairs = edge_index[:, :100]
    forth, back = edges.logits(pairs), edges.logits(pairs.flip(0))
    if not torch.allclose(forth, back, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"'edges' must have symmetric scores, or directed = True; got {forth.flatten()[0].item():.3g} for "
            f"{tuple(pairs[:, 0].tolist())} and {back.flatten()[0].item():.3g} for its reverse"
        )
