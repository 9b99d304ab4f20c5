"""Closed forms of convolutions without edges, against PyG's own layers."""

import copy
from functools import partial

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch_geometric.data import Batch, Data

from graphvae import GraphVAE, edgeless, fit
from graphvae.backbones import GraphConvolution, HopMix, Nodewise, Propagation, Stack, run_backbone
from graphvae.encoders import NormalEncoder
from graphvae.features import GaussianFeatures
from graphvae.graphs import as_batch
from graphvae.isolated import _FORMS, convolved
from graphvae.layout import Layout
from graphvae.priors import StandardNormal

NONE = torch.empty(2, 0, dtype=torch.long)
N, F, H = 33, 24, 16


def _network():
    return nn.Sequential(nn.Linear(F, H), nn.BatchNorm1d(H), nn.ReLU(), nn.Linear(H, H))


CONVOLUTIONS = {
    "GCN": lambda: pyg.GCNConv(F, H),
    "GCN without bias": lambda: pyg.GCNConv(F, H, bias=False),
    "SG": lambda: pyg.SGConv(F, H, K=3),
    "SSG": lambda: pyg.SSGConv(F, H, alpha=0.3, K=3),
    "APPNP": lambda: pyg.APPNP(3, 0.3),
    "Cheb 1": lambda: pyg.ChebConv(F, H, K=1),
    "Cheb 6": lambda: pyg.ChebConv(F, H, K=6),
    "Cheb rw": lambda: pyg.ChebConv(F, H, K=4, normalization="rw"),
    "TAG": lambda: pyg.TAGConv(F, H),
    "SAGE mean": lambda: pyg.SAGEConv(F, H),
    "SAGE max": lambda: pyg.SAGEConv(F, H, aggr="max", normalize=True),
    "SAGE project": lambda: pyg.SAGEConv(F, H, aggr="sum", project=True, bias=False),
    "Graph": lambda: pyg.GraphConv(F, H),
    "Graph min": lambda: pyg.GraphConv(F, H, aggr="min"),
    "GIN": lambda: pyg.GINConv(_network(), eps=0.3, train_eps=True),
    "LE": lambda: pyg.LEConv(F, H),
    "ClusterGCN": lambda: pyg.ClusterGCNConv(F, H),
    "ResGated": lambda: pyg.ResGatedGraphConv(F, H),
    "GAT": lambda: pyg.GATConv(F, H, heads=3),
    "GAT mean": lambda: pyg.GATConv(F, H, heads=3, concat=False, residual=True),
    "GATv2": lambda: pyg.GATv2Conv(F, H, heads=3, residual=True),
    "GATv2 mean": lambda: pyg.GATv2Conv(F, H, heads=3, concat=False, share_weights=True),
    "Transformer": lambda: pyg.TransformerConv(F, H, heads=3, dropout=0.5),
    "Transformer mean": lambda: pyg.TransformerConv(F, H, heads=3, concat=False),
}
# Known convolutions with options for which there is no closed form.
OTHERS = {
    "GCN improved": lambda: pyg.GCNConv(F, H, improved=True),
    "GCN without loops": lambda: pyg.GCNConv(F, H, add_self_loops=False),
    "APPNP dropout": lambda: pyg.APPNP(3, 0.3, dropout=0.5),
    "SAGE std": lambda: pyg.SAGEConv(F, H, aggr="std"),
    "SAGE of neighbours": lambda: pyg.SAGEConv(F, H, root_weight=False),
    "Graph mul": lambda: pyg.GraphConv(F, H, aggr="mul"),
    "ClusterGCN weighted": lambda: pyg.ClusterGCNConv(F, H, diag_lambda=0.5),
    "GAT dropout": lambda: pyg.GATConv(F, H, dropout=0.5),
    "GAT without loops": lambda: pyg.GATConv(F, H, add_self_loops=False),
    "GATv2 with edge features": lambda: pyg.GATv2Conv(F, H, edge_dim=3),
    "Transformer beta": lambda: pyg.TransformerConv(F, H, beta=True),
}


def _models():
    for name in ("GCN", "GraphSAGE", "GIN", "GAT"):
        for jk, norm, first in ((None, None, True), ("cat", "batch_norm", False), ("max", "LayerNorm", True)):
            options = {"dropout": 0.5, "jk": jk, "norm": norm, "act_first": first}
            yield f"{name} {jk}", partial(getattr(pyg, name), F, H, 3, 4, **options)
    yield "EdgeCNN", lambda: pyg.EdgeCNN(F, H, 2)


MODELS = dict(_models())


def _made(make, training):
    torch.manual_seed(0)
    module = make().train(training)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def _outcome(module, run, x):
    """Output, gradients and state of a run from one seed, and where it leaves the generator."""
    module, x = copy.deepcopy(module), x.clone().requires_grad_()
    torch.manual_seed(1)
    out = run(module, x)
    left = torch.rand(3)
    torch.manual_seed(2)
    if out.requires_grad:
        (out * torch.randn_like(out)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()} | {"x": x.grad}
    return {"out": out.detach(), "left": left} | gradients | dict(module.named_buffers())


def _check_same(module, x, **batch):
    expected = _outcome(module, lambda m, x: m(x, NONE, **batch), x)
    found = _outcome(module, lambda m, x: convolved(m, x, NONE, **batch), x)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        same = value is found[name] if value is None else torch.equal(value, found[name])
        assert same, name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("name", [*CONVOLUTIONS, *OTHERS, *MODELS])
def test_values_and_gradients_are_pygs_to_the_bit(name, dtype, training):
    module = _made((CONVOLUTIONS | OTHERS | MODELS)[name], training).to(dtype)
    x = torch.randn(N, F, generator=torch.Generator().manual_seed(3), dtype=dtype)
    _check_same(module, x, **({"batch": torch.arange(N)} if name in MODELS else {}))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_closed_form_is_taken_and_pygs_machinery_is_not(name, monkeypatch):
    monkeypatch.setattr(pyg.MessagePassing, "propagate", None)
    module = _made(CONVOLUTIONS[name], True)
    for kind in type(module).__mro__:
        if "propagate" in vars(kind):
            monkeypatch.setattr(kind, "propagate", None)
    assert convolved(module, torch.randn(N, F), NONE).shape[0] == N


def test_every_convolution_of_the_table_is_tested():
    assert {type(make()) for make in CONVOLUTIONS.values()} == set(_FORMS)


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_propagate_forward_hook"])
def test_hooks_are_called(hook):
    calls, module = [], pyg.GCNConv(F, H)
    getattr(module, hook)(lambda *_: calls.append(1))
    convolved(module, torch.randn(N, F), NONE)
    assert calls == [1]


def test_a_convolution_of_ones_own_is_called():
    class Own(pyg.GCNConv):
        def forward(self, x, edge_index, edge_weight=None):
            return x

    x = torch.randn(N, F)
    assert convolved(Own(F, H), x, NONE) is x
    module = pyg.GCNConv(F, H)
    module.forward = lambda x, edge_index: x
    assert convolved(module, x, NONE) is x


def test_a_cached_graph_is_used_as_pyg_does():
    module, x = pyg.GCNConv(F, H, cached=True), torch.randn(3, F)
    module(x, torch.tensor([[0, 1], [1, 0]]))
    assert torch.equal(convolved(module, x, NONE), module(x, NONE))


def test_reparametrised_weights_train():
    module = pyg.SAGEConv(F, H)
    nn.utils.parametrizations.weight_norm(module.lin_l)
    nn.utils.parametrizations.spectral_norm(module.lin_r)
    _check_same(module, torch.randn(N, F))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stack(pyg.GCNConv(F, H), nn.ReLU(), nn.Dropout(0.5), pyg.LayerNorm(H), Stack(pyg.GATConv(H, 4))),
        lambda: Stack(pyg.GCN(F, H, 2, norm="batch_norm"), pyg.SAGEConv(H, 4)),
        *CONVOLUTIONS.values(),
        *(MODELS[name] for name in MODELS if name != "GIN max"),
    ],
)
def test_a_batch_of_vectors_is_its_single_vectors(make):
    backbone, graphs = _made(make, False).double(), edgeless(torch.randn(5, F).double())
    whole = run_backbone(backbone, graphs.x, graphs.edge_index, graphs.layout)
    rows = [run_backbone(backbone, x[None], NONE, Layout.singles(1)) for x in graphs.x]
    torch.testing.assert_close(whole, torch.cat(rows))
    listed = as_batch([Data(x=x[None], edge_index=NONE) for x in graphs.x])
    assert torch.equal(run_backbone(backbone, listed.x, listed.edge_index, listed.layout), whole)


def test_stacks_use_closed_forms(monkeypatch):
    stack, x = Stack(pyg.GCNConv(F, H), nn.Tanh(), pyg.SAGEConv(H, 4)), torch.randn(N, F)
    expected = stack.layers[2](stack.layers[0](x, NONE).tanh(), NONE)
    monkeypatch.setattr(pyg.MessagePassing, "propagate", None)
    for kind in (pyg.GCNConv, pyg.SAGEConv):
        monkeypatch.setattr(kind, "propagate", None)
    assert torch.equal(stack(x, NONE), expected)


def test_our_own_layers_without_edges():
    x = torch.randn(N, F)
    layer = GraphConvolution(F, H)
    nn.init.normal_(layer.bias)
    assert torch.equal(layer(x, NONE), x @ layer.lin.weight.T + layer.bias)
    assert torch.equal(Propagation()(x, NONE), x)
    torch.testing.assert_close(HopMix(3)(x, NONE), x)
    with pytest.raises(TypeError, match="'edge_index' must be"):
        layer(x, torch.empty(2, 0))


@pytest.mark.parametrize("name", ["GCN None", "GAT cat", "Stack", "GraphConvolution"])
def test_it_compiles_without_a_graph_break(name):
    makers = {"Stack": lambda: Stack(pyg.TransformerConv(F, H)), "GraphConvolution": lambda: GraphConvolution(F, H)}
    encoder = NormalEncoder(_made((MODELS | makers)[name], False), 4 if name in MODELS else H, 2).eval()
    graphs = edgeless(torch.randn(N, F))

    def mean(x, edge_index):
        return encoder(x, edge_index, layout=graphs.layout).mean

    compiled = torch.compile(mean, backend="aot_eager", fullgraph=True)
    found = compiled(graphs.x, graphs.edge_index)
    torch.testing.assert_close(found, mean(graphs.x, graphs.edge_index))


CENTRING = [pyg.GraphNorm(H), pyg.InstanceNorm(H), pyg.PairNorm(), pyg.MeanSubtractionNorm()]


def _model(backbone, hidden=H):
    features = GaussianFeatures(Nodewise(nn.Linear(2, 4)), 4, F)
    return GraphVAE(StandardNormal(2), NormalEncoder(backbone, hidden, 2), None, features)


@pytest.mark.parametrize("norm", CENTRING, ids=lambda norm: type(norm).__name__)
def test_centring_within_single_nodes_is_refused(norm):
    message = f"its layer {type(norm).__name__} does: .*; use LayerNorm\\(mode='node'\\) or BatchNorm"
    x = torch.randn(N, F)
    for backbone in (Stack(pyg.GCNConv(F, H), norm), pyg.GCN(F, H, 2, norm=norm)):
        for graphs in (
            edgeless(x),
            edgeless(x[:1]),
            Batch.from_data_list([Data(x=v[None], edge_index=NONE) for v in x]),
        ):
            graphs = as_batch(graphs)
            assert not run_backbone(norm, torch.randn(N, H), NONE, None).isnan().any()  # One graph of N nodes.
            with pytest.raises(ValueError, match=message):
                run_backbone(backbone, graphs.x, graphs.edge_index, graphs.layout)
        model = _model(backbone)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=message):
            fit(model, x, epochs=1, progress=False)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    backbone.norms[0] = pyg.LayerNorm(H, mode="node")
    graphs = edgeless(x)
    assert run_backbone(backbone, graphs.x, graphs.edge_index, graphs.layout).shape == (N, H)


def test_running_statistics_are_fine_where_they_are_used():
    norm, graphs = pyg.InstanceNorm(F, track_running_stats=True).eval(), edgeless(torch.randn(N, F))
    out = run_backbone(Stack(norm), graphs.x, graphs.edge_index, graphs.layout)
    torch.testing.assert_close(out, graphs.x / (1 + 1e-5) ** 0.5)
    with pytest.raises(ValueError, match="InstanceNorm"):
        run_backbone(Stack(norm).train(), graphs.x, graphs.edge_index, graphs.layout)


@pytest.mark.parametrize("layer", [pyg.LayerNorm(F), pyg.GPSConv(F, None, heads=2)], ids=["LayerNorm", "GPSConv"])
def test_layers_that_mix_vectors_must_be_told_which_is_which(layer):
    graphs = edgeless(torch.randn(N, F))
    x, layout = graphs.x, graphs.layout
    with pytest.raises(ValueError, match=f"its layer {type(layer).__name__} mixes them: "):
        run_backbone(Nodewise(layer), x, NONE, layout)
    with pytest.raises(ValueError, match="mixes them"):
        run_backbone(Stack(nn.Sequential(layer)), x, NONE, layout)
    with pytest.raises(ValueError, match="LayerNorm mixes them"):  # In the networks of the convolutions.
        run_backbone(MODELS["GIN max"](), x, NONE, layout)
    out = run_backbone(Stack(layer).eval(), x, NONE, layout)
    changed = torch.cat([x[:1], torch.randn(N - 1, F)])
    torch.testing.assert_close(run_backbone(Stack(layer).eval(), changed, NONE, layout)[0], out[0])


@pytest.mark.parametrize(
    "convolution",
    [
        pyg.GCNConv(F, H, add_self_loops=False),
        pyg.SAGEConv(F, H, root_weight=False),
        pyg.GATConv(F, H, add_self_loops=False),
        pyg.TransformerConv(F, H, root_weight=False),
    ],
    ids=lambda convolution: type(convolution).__name__,
)
def test_a_backbone_that_loses_its_input_is_warned_of(convolution):
    x = torch.randn(N, F)
    with pytest.warns(UserWarning, match="backbone of 'encoder', Stack, gives every vector the same output"):
        fit(_model(Stack(convolution, nn.Tanh())), x, epochs=1, progress=False)
    fit(_model(Stack(convolution, nn.Tanh())), torch.ones(N, F), epochs=1, progress=False)
