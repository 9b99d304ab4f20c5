"""Max-pooling matching against the literal similarities and update of the papers; rounding against all permutations."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch

from graphvae.matching import degree_similarity, max_pooling_matching, rounded


def graphs_and_decoder(sizes, places, types=1, density=0.5, seed=0):
    """Random typed graphs of `sizes`, padded, and probabilities of a decoder, as the arguments of the matching."""
    generator = torch.Generator().manual_seed(seed)
    dtype, B, n = torch.get_default_dtype(), len(sizes), max(sizes)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    drawn = torch.rand(B, n, n, generator=generator).triu(1)
    kinds = (drawn / density * types).floor().long() + 1
    kinds = torch.where((drawn > 0) & (drawn < density) & mask[:, None] & mask[:, :, None], kinds, 0)
    adjacency = torch.nn.functional.one_hot(kinds + kinds.mT, types + 1)[..., 1:].permute(0, 3, 1, 2).to(dtype)
    logits = torch.randn(B, types + 1, places, places, generator=generator, dtype=dtype)
    edges = (2 * (logits + logits.mT)).softmax(1)[:, 1:]
    existence = torch.rand(B, places, generator=generator, dtype=dtype)
    return adjacency, torch.rand(B, n, places, generator=generator, dtype=dtype), existence, edges, mask


def similarity(adjacency, node_similarity, existence, edges):
    """S `(n, n, k, k)` of one graph, entry by entry."""
    (T, n, _), k = adjacency.shape, len(existence)
    adjacency, own, taken, edges = (t.numpy() for t in (adjacency, node_similarity, existence, edges))
    s = np.zeros((n, n, k, k))
    for i, j, a, b in itertools.product(range(n), range(n), range(k), range(k)):
        if i == j and a == b:
            s[i, j, a, b] = own[i, a] * taken[a]
        elif i != j and a != b:
            s[i, j, a, b] = sum(adjacency[t, i, j] * edges[t, a, b] for t in range(T)) * taken[a] * taken[b]
    return s


def literal(s, iterations):
    """The update as it is printed, from a uniform start."""
    n, _, k, _ = s.shape
    x = np.full((n, k), 1 / k)
    for _ in range(iterations):
        new = np.zeros((n, k))
        for i, a in itertools.product(range(n), range(k)):
            pooled = sum((x[j] * s[i, j, a]).max() for j in range(n) if j != i)
            new[i, a] = x[i, a] * s[i, i, a, a] + pooled
        x = new / np.linalg.norm(new)
    return torch.from_numpy(x)


def alone(given, b):
    """The arguments for graph `b` without its padding."""
    adjacency, own, existence, edges, mask = (tensor[b] for tensor in given)
    return adjacency[:, mask][..., mask], own[mask], existence, edges


CASES = [([2], 2, 1), ([4], 5, 1), ([5], 6, 3), ([3], 3, 4), ([6], 6, 2)]


@pytest.mark.parametrize(("sizes", "places", "types"), CASES)
def test_it_is_the_literal_update(sizes, places, types, double):
    given = graphs_and_decoder(sizes, places, types)
    expected = literal(similarity(*alone(given, 0)), 75)
    torch.testing.assert_close(max_pooling_matching(*given)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("types", [1, 3])
def test_graphs_of_unequal_sizes(types, double):
    """Each is matched as if it were alone and unpadded; padding stays zero."""
    given = graphs_and_decoder([3, 6, 1, 2, 4], 6, types, density=0.6)
    found, mask = max_pooling_matching(*given, iterations=20), given[-1]
    for b in range(len(mask)):
        expected = literal(similarity(*alone(given, b)), 20)
        torch.testing.assert_close(found[b][mask[b]], expected, rtol=0, atol=1e-12)
        single = max_pooling_matching(*(tensor[b : b + 1] for tensor in given), iterations=20)
        torch.testing.assert_close(found[b : b + 1], single, rtol=0, atol=1e-12)
    assert not found[~mask].any()


@pytest.mark.parametrize("density", [0.1, 0.3, 0.9])
def test_rare_and_common_types(density, double):
    """Types that few nodes have are laid out in another way than those that most have."""
    given = graphs_and_decoder([7, 2, 9, 8, 4, 9, 1, 5], 9, 4, density)
    found = max_pooling_matching(*given, iterations=3)
    for b in range(8):
        expected = literal(similarity(*alone(given, b)), 3)
        torch.testing.assert_close(found[b][given[-1][b]], expected, rtol=0, atol=1e-12)


def test_directed_and_weighted_edges(double):
    adjacency, own, existence, edges, mask = graphs_and_decoder([5], 5, 2)
    adjacency = adjacency * torch.rand_like(adjacency)
    edges = edges * torch.rand_like(edges)
    expected = literal(similarity(*alone((adjacency, own, existence, edges, mask), 0)), 10)
    found = max_pooling_matching(adjacency, own, existence, edges, mask, iterations=10)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)


def test_nodes_need_not_come_first(double):
    """Rows of padding may stand anywhere; what they hold is not read."""
    adjacency, own, existence, edges, mask = graphs_and_decoder([4, 6], 6, 2)
    order = torch.tensor([5, 0, 4, 1, 2, 3])
    moved = adjacency[:, :, order][..., order], own[:, order], existence, edges, mask[:, order]
    found = max_pooling_matching(*moved)
    torch.testing.assert_close(found, max_pooling_matching(adjacency, own, existence, edges, mask)[:, order])
    moved[0][0, 0, 0] = moved[0][0, 0, :, 0] = 1
    torch.testing.assert_close(max_pooling_matching(*moved), found, rtol=0, atol=0)


def test_relabelling_moves_rows_and_columns(double):
    adjacency, own, existence, edges, mask = graphs_and_decoder([6, 6], 7, 3)
    expected = max_pooling_matching(adjacency, own, existence, edges, mask)
    rows, columns = torch.randperm(6), torch.randperm(7)
    relabelled = adjacency[:, :, rows][..., rows], own[:, rows][..., columns], existence[:, columns]
    found = max_pooling_matching(*relabelled, edges[:, :, columns][..., columns], mask)
    torch.testing.assert_close(found, expected[:, rows][..., columns], rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 36, 150, 1000])
def test_chunks_change_nothing(chunk_size, double):
    given = graphs_and_decoder([6, 3, 1, 5, 6, 2], 6, 3, density=0.4)
    found = max_pooling_matching(*given, chunk_size=chunk_size)
    torch.testing.assert_close(found, max_pooling_matching(*given), rtol=0, atol=0)


def test_single_precision():
    given = graphs_and_decoder([9] * 20 + [4] * 7, 9, 3)
    found = max_pooling_matching(*given)
    assert found.dtype == torch.float32
    doubled = [tensor.double() if tensor.is_floating_point() else tensor for tensor in given]
    torch.testing.assert_close(found.double(), max_pooling_matching(*doubled), rtol=0, atol=1e-5)


def test_half_precision_is_raised_and_autocast_left():
    given = graphs_and_decoder([9, 5, 7], 9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        cast = max_pooling_matching(*given)
    torch.testing.assert_close(cast, max_pooling_matching(*given), rtol=0, atol=0)
    halves = [tensor.bfloat16() if tensor.is_floating_point() else tensor for tensor in given]
    raised = [tensor.float() if tensor.is_floating_point() else tensor for tensor in halves]
    torch.testing.assert_close(max_pooling_matching(*halves), max_pooling_matching(*raised), rtol=0, atol=0)


def asymmetric_graphs(num_nodes):
    """`(B, n, n)` all connected graphs whose only automorphism is the identity."""
    nets = [net for net in nx.graph_atlas_g() if len(net) == num_nodes and nx.is_connected(net)]
    maps = [nx.isomorphism.GraphMatcher(net, net).isomorphisms_iter() for net in nets]
    rigid = [net for net, found in zip(nets, maps, strict=True) if len(list(itertools.islice(found, 2))) == 1]
    return torch.stack([torch.from_numpy(nx.to_numpy_array(net)) for net in rigid])


@pytest.mark.parametrize("confidence", [1, 0.9])
def test_a_decoder_that_knows_the_graph_is_matched_exactly(confidence, double):
    graphs = asymmetric_graphs(6)
    B, n, _ = graphs.shape
    assert B == 8
    hidden = torch.stack([torch.randperm(n) for _ in range(B)])  # The node at each place.
    at_places = torch.stack([a[order][:, order] for a, order in zip(graphs, hidden, strict=True)])
    edges = (confidence * at_places + (1 - confidence) * (1 - at_places))[:, None]
    mask, existence = torch.ones(B, n, dtype=torch.bool), torch.ones(B, n)
    own = degree_similarity(graphs[:, None], existence, edges)
    places = rounded(max_pooling_matching(graphs[:, None], own, existence, edges, mask), mask)
    assert torch.equal(hidden.gather(1, places), torch.arange(n).expand(B, n))
    blind = max_pooling_matching(graphs[:, None], torch.ones(B, n, n), existence, edges, mask)
    torch.testing.assert_close(blind, blind[..., :1].expand(B, n, n))  # Without degrees all places are alike.


def test_degree_similarity(double):
    """The formula pair by pair; places alike in degree are the most similar."""
    adjacency, _, existence, edges, _ = graphs_and_decoder([5, 3], 6, 2)
    found = degree_similarity(adjacency, existence, edges)
    for i, a in itertools.product(range(5), range(6)):
        expected = sum(edges[0, t, a, b] * existence[0, b] for t in range(2) for b in range(6) if b != a)
        expected = 1 / (1 + abs(adjacency[0, :, i].sum() - expected))
        torch.testing.assert_close(found[0, i, a], expected, rtol=0, atol=1e-12)


def test_without_edges_the_likeliest_places_win(double):
    """What is left is the power of the node's own similarity: no NaN, also where nothing is alike at all."""
    adjacency, own, existence, edges, mask = graphs_and_decoder([3, 3, 2], 4, 2, density=0.0)
    own[1], existence[2] = 0, 0
    found = max_pooling_matching(adjacency, own, existence, edges, mask)
    expected = (own[0] * existence[0, None]) ** 75
    torch.testing.assert_close(found[0], expected / expected.norm(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], torch.full((3, 4), 12**-0.5), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[2], torch.tensor([8**-0.5, 8**-0.5, 0])[:, None].expand(3, 4))


@pytest.mark.parametrize("existence", [0.0, 1e-45, 1e-30, 1e-12])
def test_hardly_any_place_is_taken(existence):
    """The norm neither vanishes nor underflows in single precision."""
    adjacency, own, taken, edges, mask = graphs_and_decoder([5, 2], 5, 2)
    found = max_pooling_matching(adjacency, own, torch.full_like(taken, existence), edges, mask)
    assert found.isfinite().all()
    assert (found >= 0).all()
    torch.testing.assert_close(found.square().sum((1, 2)), torch.ones(2))
    assert rounded(found, mask).sort(1).values.eq(torch.arange(5)).all()


def test_scaling_the_similarities_changes_nothing(double):
    """Beyond the range of squares in this precision: S times 1e-280."""
    adjacency, own, existence, edges, mask = graphs_and_decoder([5, 4], 6)
    found = max_pooling_matching(adjacency, 1e-280 * own, existence, 1e-280 * edges, mask)
    expected = max_pooling_matching(adjacency, own, existence, edges, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_graph_without_nodes_and_an_empty_batch(double):
    adjacency, own, existence, edges, mask = graphs_and_decoder([4, 3], 4)
    mask[1] = False
    found = max_pooling_matching(adjacency, own, existence, edges, mask)
    assert found.isfinite().all()
    assert not found[1].any()
    none = tuple(tensor[:0] for tensor in (adjacency, own, existence, edges, mask))
    assert max_pooling_matching(*none).shape == (0, 4, 4)
    assert rounded(none[1], none[-1]).shape == (0, 4)


def test_no_gradient_goes_through(double):
    adjacency, own, existence, edges, mask = graphs_and_decoder([4, 3], 4)
    leaves = [tensor.requires_grad_() for tensor in (own, existence, edges)]
    found = max_pooling_matching(adjacency, *leaves, mask)
    assert not found.requires_grad
    assert not rounded(own, mask).requires_grad


def test_rounding_has_the_largest_sum(double):
    scores, sizes = torch.randn(8, 4, 5), torch.tensor([4, 4, 3, 2, 1, 4, 3, 0])
    mask = torch.arange(4) < sizes[:, None]
    places = rounded(scores, mask)
    for score, place, n in zip(scores, places, sizes.tolist(), strict=True):
        assert len(place.unique()) == 4
        best = max(sum(score[i, a] for i, a in enumerate(order)) for order in itertools.permutations(range(5), n))
        torch.testing.assert_close(score[range(n), place[:n]].sum(), torch.as_tensor(best, dtype=torch.float64))


def test_equal_scores_are_decided_by_number(double):
    assert rounded(torch.ones(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)).tolist() == [[0, 1, 2]]


def test_arguments_are_checked():
    adjacency, own, existence, edges, mask = graphs_and_decoder([4, 3], 5, 2)
    with pytest.raises(ValueError, match=r"'edges' must have shape \(2, 2, 5, 5\)"):
        max_pooling_matching(adjacency, own, existence, edges[:, :1], mask)
    with pytest.raises(ValueError, match="'adjacency' must be"):
        max_pooling_matching(adjacency[:, 0], own, existence, edges, mask)
    with pytest.raises(ValueError, match="'mask' must be boolean"):
        max_pooling_matching(adjacency, own, existence, edges, mask.float())
    with pytest.raises(ValueError, match="one type at most"):
        max_pooling_matching(torch.ones_like(adjacency), own, existence, edges, mask)
    with pytest.raises(ValueError, match="'iterations' must be positive"):
        max_pooling_matching(adjacency, own, existence, edges, mask, iterations=0)
    with pytest.raises(ValueError, match="n at most k"):
        rounded(own.mT, torch.ones(2, 5, dtype=torch.bool))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_matches_alike(double):
    given = graphs_and_decoder([9] * 20 + [4, 1] * 7, 9, 3, density=0.3)
    found = max_pooling_matching(*(tensor.cuda() for tensor in given))
    torch.testing.assert_close(found.cpu(), max_pooling_matching(*given), rtol=0, atol=1e-12)
    assert torch.equal(rounded(found, given[-1].cuda()).cpu(), rounded(found.cpu(), given[-1]))
