import copy
import gc
import pickle
import re

import pytest
import torch
from torch import nn
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data
from torch_geometric.nn import APPNP, GCN, GIN, GCNConv, GraphConv, GraphSAGE
from torch_geometric.utils import to_torch_csr_tensor

from conftest import random_graph
from graphvae import sparse
from graphvae.backbones import GraphConvolution, HopMix, Nodewise, Propagation, SparseLinear, Stack
from graphvae.bounds import elbo
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.features import BernoulliFeatures, CategoricalFeatures, GaussianFeatures
from graphvae.graphs import Selector, as_batch, edgeless, permute
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal
from graphvae.resuming import digest
from graphvae.sparse import entry, linear, normalized_adjacency, permuted_rows, propagate, spmm, transposed
from graphvae.training import fit

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning"),  # PyG's own.
]


def random_csr(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=generator, dtype=torch.get_default_dtype())
    return (dense * (torch.rand(rows, columns, generator=generator) < 0.3)).to_sparse_csr()


def words(num_nodes=12, features=7, seed=0, dtype=torch.float64):
    """A graph with a binary bag of words, dense."""
    graph = random_graph(num_nodes, 0.3, seed=seed)
    graph.x = (torch.rand(num_nodes, features, generator=torch.Generator().manual_seed(seed)) < 0.3).to(dtype)
    return graph


def sparsely(graph, x=None):
    return Data(x=(graph.x if x is None else x).to_sparse_csr(), edge_index=graph.edge_index)


MULTIGRAPH = torch.tensor([[0, 0, 1, 2, 2, 3, 3], [1, 1, 0, 2, 2, 1, 3]])  # Loops, a repeated edge, isolated nodes.


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_the_product_and_its_gradient_are_those_of_the_dense_matrix(index):
    m = random_csr(6, 4)
    m = torch.sparse_csr_tensor(
        m.crow_indices().to(index), m.col_indices().to(index), m.values(), m.shape, check_invariants=True
    )
    dense = torch.randn(4, 3, requires_grad=True)
    torch.testing.assert_close(spmm(m, dense), m.to_dense() @ dense)
    assert torch.autograd.gradcheck(lambda h: spmm(m, h), dense)


@pytest.mark.parametrize("shape", [(3, 3, 0), (3, 0, 2), (0, 3, 2), (3, 3, 2)])
def test_empty_matrices_multiply_to_zeros(shape):
    rows, columns, width = shape
    dense = torch.ones(columns, width, requires_grad=True)
    product = spmm(torch.zeros(rows, columns).to_sparse_csr(), dense)
    assert torch.equal(product, torch.zeros(rows, width))
    product.sum().backward()
    assert torch.equal(dense.grad, torch.zeros(columns, width))


def test_a_second_derivative_is_refused_not_wrong():
    dense = torch.randn(4, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(spmm(random_csr(6, 4), dense).square().sum(), dense, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("matrix", "dense", "kind", "message"),
    [
        (torch.eye(3), torch.ones(3, 2), TypeError, "must be torch.sparse_csr, got torch.strided; use .to_sparse_csr"),
        (torch.eye(3), torch.ones(4, 2), ValueError, "must fit together, got (3, 3) and (4, 2)"),
        (torch.eye(3), torch.ones(3), ValueError, "must fit together, got (3, 3) and (3,)"),
        (torch.eye(3).requires_grad_(), torch.ones(3, 2), ValueError, "'matrix' must not require a gradient"),
    ],
)
def test_what_cannot_be_multiplied_is_refused(matrix, dense, kind, message):
    matrix = matrix if kind is TypeError else matrix.to_sparse_csr()
    with pytest.raises(kind, match=re.escape(message)):
        spmm(matrix, dense)


def test_the_transpose_is_made_once_and_a_symmetric_matrix_is_its_own():
    m = random_csr(6, 4)
    assert torch.equal(transposed(m).to_dense(), m.to_dense().T)
    assert transposed(m) is transposed(m)
    s = (m.to_dense() @ m.to_dense().T).to_sparse_csr()
    assert transposed(s) is s
    s.values()[0] += 1  # The diagonal: still symmetric.
    assert transposed(s) is s
    s.values()[1] += 1
    assert torch.equal(transposed(s).to_dense(), s.to_dense().T)


def test_a_change_in_place_of_key_or_value_is_noticed():
    m, dense = random_csr(6, 4), torch.randn(4, 3, requires_grad=True)
    spmm(m, dense).sum().backward()
    m.values().mul_(2)
    dense.grad = None
    spmm(m, dense).sum().backward()
    torch.testing.assert_close(dense.grad, m.to_dense().T @ torch.ones(6, 3))
    transposed(m).values().zero_()
    assert torch.equal(transposed(m).to_dense(), m.to_dense().T)
    edge_index = random_graph(8, 0.4, seed=0).edge_index
    x = torch.randn(8, 3)
    propagate(x, edge_index)
    edge_index.copy_(edge_index.flip(1).roll(1, 0) * 0 + torch.tensor([[0], [1]]))
    torch.testing.assert_close(propagate(x, edge_index), APPNP(1, 0.0)(x, edge_index))
    edge_index.data = torch.tensor([[2, 3], [3, 2]])
    torch.testing.assert_close(propagate(x, edge_index), APPNP(1, 0.0)(x, edge_index))


def test_a_matrix_changed_before_its_backward_pass_is_an_error():
    m, dense = random_csr(6, 4), torch.randn(4, 3, requires_grad=True)
    product = spmm(m, dense).sum()
    m.values().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_nothing_is_remembered_of_what_is_gone():
    gc.collect()
    before = len(sparse._operators._kept), len(sparse._transposes._kept)
    for directed in (False, True):
        graph = random_graph(8, 0.4, seed=0, directed=directed)
        layer = GraphConvolution(5, 2)
        layer(graph.x, graph.edge_index).sum().backward()
        assert len(sparse._operators._kept) == before[0] + 1
        assert len(sparse._transposes._kept) == before[1] + 1
        del graph, layer
        gc.collect()
        assert (len(sparse._operators._kept), len(sparse._transposes._kept)) == before


@pytest.mark.parametrize("directed", [False, True])
def test_the_operator_is_that_of_gcn_norm(directed):
    graph = random_graph(9, 0.3, seed=1, directed=directed)
    for edge_index in (graph.edge_index, MULTIGRAPH, MULTIGRAPH.int(), MULTIGRAPH[:, :0]):
        x = torch.randn(9, 3, requires_grad=True)
        mine, theirs = propagate(x, edge_index), APPNP(K=1, alpha=0.0)(x, edge_index.long())
        torch.testing.assert_close(mine, theirs)
        weight = torch.randn(9, 3)
        grads = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (mine, theirs)]
        torch.testing.assert_close(*grads)
    operator = normalized_adjacency(graph.edge_index, 9)
    assert operator is normalized_adjacency(graph.edge_index, 9)
    assert operator.col_indices().dtype == torch.int32
    assert (transposed(operator) is operator) != directed
    torch.sparse_csr_tensor(
        operator.crow_indices(), operator.col_indices(), operator.values(), operator.shape, check_invariants=True
    )


def test_one_edge_index_serves_several_sizes_and_types():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    for n in (2, 5, 2):
        for dtype in (torch.float32, torch.float64):
            operator = normalized_adjacency(edge_index, n, dtype)
            assert (operator.shape, operator.dtype) == ((n, n), dtype)


def test_devices_without_sparse_products_add_up_edge_by_edge(monkeypatch):
    graph = random_graph(9, 0.3, seed=1, directed=True)
    x = graph.x.requires_grad_()
    expected = propagate(x, graph.edge_index)
    monkeypatch.setattr(sparse, "_SPARSE_DEVICES", ())
    found = propagate(x, graph.edge_index)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (found, expected)))


@pytest.mark.parametrize(
    ("edge_index", "kind", "message"),
    [
        (torch.tensor([[0, 9], [9, 0]]), ValueError, "must hold nodes 0 to 3, got 0 to 9"),
        (torch.tensor([[0, -1], [-1, 0]]), ValueError, "must hold nodes 0 to 3, got -1 to 0"),
        (torch.tensor([0, 1]), ValueError, "must have shape (2, E), got (2,)"),
        (torch.ones(2, 2), TypeError, "must be (2, E) integers, got torch.float32"),
        (torch.eye(4), TypeError, "must be (2, E) integers, got torch.sparse_csr; these layers keep a sparse"),
    ],
)
def test_an_edge_index_that_would_read_foreign_memory_is_refused(edge_index, kind, message):
    edge_index = edge_index.to_sparse_csr() if edge_index.shape == (4, 4) else edge_index
    with pytest.raises(kind, match=re.escape(message)):
        propagate(torch.ones(4, 2), edge_index)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_multiplied_in_single(half):
    graph = random_graph(20, 0.3, seed=2)
    x = graph.x.to(half).requires_grad_()
    out = propagate(x, graph.edge_index)
    assert out.dtype == half
    exact = propagate(x.detach().float(), graph.edge_index)
    assert torch.equal(out, exact.to(half))
    out.sum().backward()
    assert x.grad.dtype == half
    m = random_csr(6, 20)
    assert torch.equal(spmm(m.to(half), x), (m.to(half).float().to_dense() @ x.float()).to(half))


def test_autocast_keeps_the_product_out_of_half_precision():
    graph = words(dtype=torch.float32)
    layer = Stack(GraphConvolution(7, 8), nn.ReLU(), GraphConvolution(8, 3)).float()
    expected = layer(graph.x, graph.edge_index)
    for x in (graph.x, graph.x.to_sparse_csr()):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x, graph.edge_index)
        torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
        found.float().sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_inference_mode_and_training_do_not_disturb_each_other():
    graph, layer = random_graph(8, 0.4, seed=0), GraphConvolution(5, 3)
    with torch.inference_mode():
        first = layer(graph.x, graph.edge_index)
        made_here = graph.edge_index.clone()
        assert torch.equal(layer(graph.x, made_here), first)
        made_here[:, :] = torch.tensor([[0], [1]])
        torch.testing.assert_close(layer(graph.x, made_here), layer(graph.x, made_here.clone()))
    second = layer(graph.x, graph.edge_index)
    second.sum().backward()
    assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore")
def test_layers_run_under_compile():
    graph = random_graph(8, 0.4, seed=0)
    layer = Stack(GraphConvolution(5, 4), nn.ReLU(), Propagation())
    compiled = torch.compile(layer, backend="aot_eager")
    grads = []
    for network in (layer, compiled):
        layer.zero_grad()
        network(graph.x, graph.edge_index).square().sum().backward()
        grads.append(layer.layers[0].lin.weight.grad)
    torch.testing.assert_close(*grads)


def test_layers_are_copied_and_pickled_after_use():
    graph, layer = random_graph(8, 0.4, seed=0), Stack(GraphConvolution(5, 4), HopMix(2))
    expected = layer(graph.x, graph.edge_index)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(graph.x, graph.edge_index), expected)


def test_pyg_edge_index_objects_are_edge_indices():
    graph = random_graph(8, 0.4, seed=0)
    wrapped = EdgeIndex(graph.edge_index, sparse_size=(8, 8))
    torch.testing.assert_close(propagate(graph.x, wrapped), propagate(graph.x, graph.edge_index))


def test_linear_takes_dense_and_sparse_rows():
    x, weight, bias = random_csr(6, 4), torch.randn(3, 4, requires_grad=True), torch.randn(3)
    for b in (None, bias):
        torch.testing.assert_close(linear(x, weight, b), nn.functional.linear(x.to_dense(), weight, b))
        torch.testing.assert_close(linear(x.to_dense(), weight, b), nn.functional.linear(x.to_dense(), weight, b))
    assert torch.autograd.gradcheck(lambda w: linear(x, w, bias), weight)


def test_rows_are_permuted_and_entries_found():
    m, order = random_csr(6, 4), torch.randperm(6)
    assert torch.equal(permuted_rows(m, order).to_dense(), m.to_dense()[order])
    assert torch.equal(permuted_rows(m.to_dense(), order), m.to_dense()[order])
    places = m.to_dense().nonzero().tolist()
    assert [list(entry(m, k)) for k in range(len(places))] == places


def test_pyg_layers_take_a_sparse_matrix_in_place_of_the_edges():
    graph = random_graph(9, 0.3, seed=3, directed=True)
    adjacency = to_torch_csr_tensor(graph.edge_index.flip(0), size=9)
    for backbone in (GIN(5, 4, 2), Stack(GraphConv(5, 4), nn.ReLU()), GCN(5, 4, 2)):
        encoder = NormalEncoder(backbone, 4, 2)
        torch.testing.assert_close(encoder(graph.x, adjacency).mean, encoder(graph.x, graph.edge_index).mean)
    operator, bare = normalized_adjacency(graph.edge_index, 9), GCNConv(5, 4, normalize=False)
    full = GCNConv(5, 4)
    full.load_state_dict(bare.state_dict())
    torch.testing.assert_close(bare(graph.x, operator), full(graph.x, graph.edge_index))


BACKBONES = {
    "convolutions": lambda width: Stack(GraphConvolution(width, 8), nn.ReLU(), Propagation()),
    "vectors": lambda width: Nodewise(nn.Sequential(SparseLinear(width, 8), nn.Tanh())),
    "PyG": lambda width: GCN(width, 8, 2),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_on_sparse_features_is_training_on_dense_ones(backbone):
    graph = words()
    histories, gradients = [], []
    for given in (graph, sparsely(graph)):
        torch.manual_seed(0)
        network = BernoulliFeatures(Stack(GraphConvolution(2, 8), nn.ReLU()), 8, 7)
        encoder = NormalEncoder(BACKBONES[backbone](7), 8, 2)
        model = GraphVAE(StandardNormal(2), encoder, InnerProduct(0.3), network)
        histories.append(fit(model, given, elbo, epochs=5, progress=False).objective)
        gradients.append([p.detach().clone() for p in model.parameters()])
    assert histories[0][0] != histories[0][-1]
    torch.testing.assert_close(histories[0], histories[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_run_on_sparse_features_is_continued(tmp_path):
    graph = sparsely(words())
    whole = []
    for stops in ((4,), (2, 4)):
        torch.manual_seed(0)
        model = GraphVAE(StandardNormal(2), NormalEncoder(BACKBONES["convolutions"](7), 8, 2), InnerProduct(0.3))
        for epochs in stops:
            whole = fit(model, graph, elbo, epochs=epochs, folder=tmp_path / str(len(stops)), progress=False).objective
        if stops == (4,):
            expected = whole
    assert whole == expected
    batch, other = as_batch(graph), sparsely(words())
    assert digest(batch) == digest(as_batch(other))
    other.x.values()[0] = 2.0
    assert digest(batch) != digest(as_batch(other))


def test_a_sparse_graph_passes_through_the_library():
    graph = words()
    dense, batch = as_batch(graph), as_batch(sparsely(graph))
    assert as_batch(batch) is batch
    assert torch.equal(batch.to("cpu").x.to_dense(), graph.x)
    order = torch.randperm(12)
    moved, expected = permute(batch, order), permute(dense, order)
    assert torch.equal(moved.x.to_dense(), expected.x)
    assert torch.equal(moved.edge_index, expected.edge_index)
    assert as_batch(Batch.from_data_list([sparsely(graph)])).num_graphs == 1


def csr(rows, columns, values, shape):
    return torch.sparse_csr_tensor(torch.tensor(rows), torch.tensor(columns), values, shape, check_invariants=False)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (lambda: csr([0, 1, 2], [1, 0], torch.tensor([1.0, torch.nan]), (2, 3)), ValueError, "first at x[1, 0]"),
        (
            lambda: csr([0, 1, 2], [1, 7], torch.ones(2), (2, 3)),
            ValueError,
            "must be a valid CSR matrix with sorted columns",
        ),
        (
            lambda: csr([0, 2, 2], [1, 0], torch.ones(2), (2, 3)),
            ValueError,
            "must be a valid CSR matrix with sorted columns",
        ),
        (
            lambda: csr([0, 1, 2], [1, 0], torch.ones(2).long(), (2, 3)),
            TypeError,
            "must be floating point, got torch.int64",
        ),
        (lambda: csr([0, 1, 2, 2], [1, 0], torch.ones(2), (3, 3)), ValueError, "got 3 rows for 2 nodes"),
        (
            lambda: csr([0, 1, 2], [1, 0], torch.ones(2), (2, 3)).requires_grad_(),
            ValueError,
            "must not require a gradient",
        ),
        (lambda: torch.eye(2).to_sparse(), TypeError, "got torch.sparse_coo; use x.to_dense() or x.to_sparse_csr()"),
        (lambda: torch.eye(2).to_sparse_csc(), TypeError, "must be dense or torch.sparse_csr, got torch.sparse_csc"),
    ],
)
def test_bad_sparse_features_are_refused_in_one_line(x, kind, message):
    graph = Data(x=x(), edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        as_batch(graph)
    assert "\n" not in str(caught.value)


def test_sparse_features_are_for_one_graph():
    graph = sparsely(words())
    message = "'x' must be dense, except in one graph alone, got torch.sparse_csr; use x.to_dense()"
    with pytest.raises(TypeError, match=re.escape("'graphs[0]': " + message)):
        as_batch([graph, graph])
    with pytest.raises(TypeError, match=re.escape(message)):
        edgeless(graph.x)


@pytest.mark.parametrize(
    "make",
    [lambda: GraphSAGE(7, 8, 2), lambda: Stack(nn.Dropout(0.5), GraphConvolution(7, 8)), lambda: HopMix(1)],
)
def test_a_backbone_that_cannot_take_sparse_features_says_so(make):
    backbone = make()
    model = GraphVAE(StandardNormal(2), NormalEncoder(backbone.train(), 8, 2), InnerProduct(0.3))
    graph = sparsely(words())
    message = rf"'x' is sparse, which {type(backbone).__name__} may be unable to take; use x.to_dense"
    with pytest.raises(TypeError, match=message):
        model.posterior(graph)


def test_the_support_is_checked_on_sparse_features():
    def model(features):
        return GraphVAE(StandardNormal(2), NormalEncoder(BACKBONES["convolutions"](7), 8, 2), features=features)

    graph = words()
    bernoulli = BernoulliFeatures(Nodewise(nn.Identity()), 2, 7)
    assert model(bernoulli).batch(sparsely(graph)).x.layout == torch.sparse_csr
    wrong = graph.x.clone()
    row, column = graph.x.nonzero()[3].tolist()
    wrong[row, column] = 0.5
    message = rf"'x' must be 0 or 1 .*for BernoulliFeatures, got x\[{row}, {column}\] = 0.5"
    for given in (Data(x=wrong, edge_index=graph.edge_index), sparsely(graph, wrong)):
        with pytest.raises(ValueError, match=message):
            model(bernoulli).batch(given)
    categorical = CategoricalFeatures(Nodewise(nn.Identity()), 2, 7)
    one_hot = torch.eye(7)[torch.randint(7, (12,))]
    assert model(categorical).batch(sparsely(graph, one_hot)).num_graphs == 1
    with pytest.raises(ValueError, match=r"must be OneHot.* got x\[4\] ="):
        model(categorical).batch(sparsely(graph, one_hot * (torch.arange(12) != 4)[:, None]))
    positive = GaussianFeatures(Nodewise(nn.Identity()), 2, 7)
    positive.support = torch.distributions.constraints.positive
    with pytest.raises(ValueError, match=r"got x\[0, \d\] = 0.0"):  # Zero is implied where nothing is stored.
        model(positive).batch(sparsely(graph))


def test_log_likelihood_of_sparse_features_is_that_of_dense_ones():
    graph = words()
    features = BernoulliFeatures(Nodewise(nn.Identity()), 2, 7)
    model = GraphVAE(StandardNormal(2), NormalEncoder(BACKBONES["convolutions"](7), 8, 2), None, features)
    z = torch.randn(12, 2)
    torch.testing.assert_close(model.log_likelihood(graph, z), model.log_likelihood(sparsely(graph), z))


@pytest.mark.parametrize("directed", [False, True])
def test_the_operator_of_a_mini_batch_is_cut_out_of_that_of_the_whole(directed):
    graphs = [random_graph(n, 0.4, seed=n, directed=directed) for n in (5, 1, 8, 3, 6)]
    selector = Selector(as_batch(graphs, directed))
    for ids in ([3, 0], [2, 2, 1], [4]):
        part = selector(ids)
        found, size = normalized_adjacency(part.edge_index, part.num_nodes), part.num_nodes
        made = normalized_adjacency(part.edge_index.clone(), size)
        assert torch.equal(found.to_dense(), made.to_dense())
        assert torch.equal(found.col_indices(), made.col_indices())
        assert torch.equal(transposed(found).to_dense(), found.to_dense().T)
        if not directed:
            assert transposed(found) is found


def test_a_mini_batch_that_was_changed_has_an_operator_of_its_own():
    part = Selector(as_batch([random_graph(5, 0.6, seed=1), random_graph(6, 0.6, seed=2)]))([1, 0])
    part.edge_index[:, :2] = torch.tensor([[0, 3], [3, 0]])
    made = normalized_adjacency(part.edge_index.clone(), part.num_nodes)
    assert torch.equal(normalized_adjacency(part.edge_index, part.num_nodes).to_dense(), made.to_dense())


def test_the_operator_of_a_mini_batch_heeds_the_number_of_nodes():
    part = Selector(as_batch([random_graph(4, 0.9, seed=1), random_graph(6, 0.6, seed=2)]))([0])
    assert normalized_adjacency(part.edge_index, 5).shape == (5, 5)
    with pytest.raises(ValueError, match="must hold nodes 0 to 1"):
        normalized_adjacency(part.edge_index, 2)


def test_an_adjacency_in_coordinates_is_refused():
    adjacency = torch.sparse_coo_tensor(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), (2, 2))
    with pytest.raises(TypeError, match=r"'edge_index' must be \(2, E\) integers"):
        normalized_adjacency(adjacency, 2)
