import ast
import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch_geometric.nn as pyg
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import nn
from torch_geometric.data import Data

import graphvae
from graphvae import GraphVAE, load, save
from graphvae.backbones import HopMix, Nodewise, Stack
from graphvae.descriptions import build, describe, register
from graphvae.edges import Bilinear, DegreeCorrected, IndefiniteInnerProduct, InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.features import (
    BernoulliFeatures,
    CategoricalFeatures,
    FixedScale,
    GaussianFeatures,
    LearnedScale,
    NodeScale,
)
from graphvae.priors import EmpiricalSizes, StandardNormal

# Sorted by target, which the LSTM aggregation asks for; one-hot features are in the support of every factor.
_EDGES = torch.tensor([[1, 2, 3, 0, 2, 0, 1, 0, 5, 4], [0, 0, 0, 1, 1, 2, 2, 3, 4, 5]])
GRAPH = Data(x=torch.eye(4)[[0, 1, 2, 3, 0, 1]], edge_index=_EDGES)
_PNA = {"aggregators": ["mean", "std"], "scalers": ["identity", "attenuation"], "deg": torch.tensor([0, 3, 2, 1])}


def _mlp(inputs=2):
    return nn.Sequential(nn.Linear(inputs, 5), nn.LeakyReLU(0.3), nn.Dropout(0.4), nn.Linear(5, 8))


def _model(encoder=None, edges=None, features=None, sizes=None):
    encoder = encoder or NormalEncoder(pyg.GCN(4, 8, 2), 8, 2)
    return GraphVAE(StandardNormal(2), encoder, edges or InnerProduct(0.3), features, sizes)


def _numbers(module):
    """What a module computes, in evaluation and in training mode, with the same noise and dropout."""
    graph, results = GRAPH.clone(), []
    graph.x = graph.x.to(next(module.parameters()).dtype)
    with torch.random.fork_rng([]):
        for training in (False, True):
            torch.manual_seed(1)
            module.train(training)
            encode = module.encoder if isinstance(module, GraphVAE) else module
            q = encode(graph.x, graph.edge_index)
            results += [q.mean, q.rsample()]
            pooled = q.mean.size(0) == 1
            if isinstance(module, GraphVAE) and not pooled:
                results.append(module.log_likelihood(graph, q.rsample()))
    return results


def _check_round_trip(module, path):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = torch.get_rng_state()
    save(module, path)
    loaded = load(path)
    assert torch.equal(torch.get_rng_state(), before), "save and load must leave the global generator alone"
    assert type(loaded) is type(module)
    assert not any(part.training for part in loaded.modules())
    ours, theirs = module.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype for k in ours)
    expected = _numbers(module)
    assert any(bool((value != 0).any()) for value in expected)
    assert all(torch.equal(a, b) for a, b in zip(expected, _numbers(loaded), strict=True))


MODELS = {
    "normal": lambda: _model(sizes=EmpiricalSizes([3, 6, 6], smoothing=0.5)),
    "point": lambda: _model(PointEncoder(pyg.GCN(4, 8, 2), 8, 2)),
    "free": lambda: _model(FreeNormal(6, 2)),
    "pooled": lambda: _model(NormalEncoder(pyg.GCN(4, 8, 2), 8, 2, pool=pyg.SumAggregation())),
    "pooled by attention": lambda: _model(
        PointEncoder(pyg.GCN(4, 8, 2), 8, 2, pool=pyg.AttentionalAggregation(nn.Linear(8, 1)))
    ),
    "inner product of a network": lambda: _model(edges=InnerProduct(0.2, _mlp())),
    "degree-corrected": lambda: _model(edges=DegreeCorrected(0.2, _mlp())),
    "indefinite": lambda: _model(edges=IndefiniteInnerProduct(8, 0.2, _mlp())),
    "bilinear": lambda: _model(edges=Bilinear(2, 0.2)),
    "bernoulli": lambda: _model(features=BernoulliFeatures(pyg.GCN(2, 8, 1), 8, 4)),
    "categorical": lambda: _model(features=CategoricalFeatures(Nodewise(_mlp()), 8, 4)),
    "node scale": lambda: _model(features=GaussianFeatures(Nodewise(_mlp()), 8, 4)),
    "scale per node": lambda: _model(features=GaussianFeatures(Nodewise(_mlp()), 8, 4, NodeScale(8, 1))),
    "learned scale": lambda: _model(features=GaussianFeatures(Nodewise(_mlp()), 8, 4, LearnedScale(4))),
    "fixed scale": lambda: _model(features=GaussianFeatures(Nodewise(_mlp()), 8, 4, FixedScale(0.3))),
    "float64": lambda: _model(features=GaussianFeatures(Nodewise(_mlp()), 8, 4, FixedScale(0.1))).double(),
    "encoder alone": lambda: NormalEncoder(pyg.GAT(4, 8, 2, heads=2, dropout=0.5), 8, 2),
}

BACKBONES = {
    "gcn": lambda: pyg.GCN(4, 8, 2, dropout=0.5, act=None, norm="batch_norm", norm_kwargs={"eps": 0.1}, jk="cat"),
    "gcn without": lambda: pyg.GCN(4, 8, 2, bias=False, normalize=False, aggr="mean", act="tanh", norm="layer_norm"),
    "gcn activation": lambda: pyg.GCN(4, 6, 3, 8, act="leaky_relu", act_kwargs={"negative_slope": 0.3}, act_first=True),
    "gcn modules": lambda: pyg.GCN(4, 8, 3, act=nn.PReLU(init=0.4), norm=pyg.BatchNorm(8, momentum=0.3)),
    "sage": lambda: pyg.GraphSAGE(4, 8, 2, aggr=["max", "std"], bias=False, normalize=True, jk="lstm"),
    "sage lstm": lambda: pyg.GraphSAGE(4, 8, 2, aggr="lstm", project=True),
    "sage softmax": lambda: pyg.GraphSAGE(4, 8, 2, aggr=pyg.SoftmaxAggregation(t=0.7, learn=True)),
    "gin": lambda: pyg.GIN(4, 8, 2, eps=0.5, train_eps=True, norm="batch_norm", flow="target_to_source"),
    "gat": lambda: pyg.GAT(4, 8, 2, heads=2, negative_slope=0.1, residual=True, add_self_loops=False),
    "gat v2": lambda: pyg.GAT(4, 6, 2, 8, v2=True, heads=2, share_weights=True, dropout=0.2),
    "pna": lambda: pyg.PNA(4, 8, 2, towers=2, pre_layers=2, post_layers=3, train_norm=True, **_PNA),
    "edge cnn": lambda: pyg.EdgeCNN(4, 8, 2, aggr="mean", act="elu"),
    "stack of layers": lambda: Stack(
        pyg.GCNConv(4, 8, improved=True, bias=False),
        nn.BatchNorm1d(8),
        pyg.GATConv(8, 4, heads=2, concat=True),
        nn.ELU(alpha=0.5),
        pyg.SAGEConv(8, 8, aggr="max", bias=False),
        pyg.TransformerConv(8, 4, heads=2, beta=True, bias=False),
        nn.Dropout(0.3),
        pyg.GINConv(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), eps=0.2),
        pyg.PNAConv(8, 8, act="elu", post_layers=2, **_PNA),
    ),
    "nodewise mlp": lambda: Nodewise(pyg.MLP([4, 6, 7, 8], dropout=[0.1, 0.2, 0.0], bias=[True, False, True])),
    "hop mix": lambda: Stack(nn.Linear(4, 8), HopMix(3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_comes_back_bit_for_bit(name, tmp_path):
    _check_round_trip(MODELS[name](), tmp_path / "a" / "b")


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.filterwarnings("ignore:.*std\\(\\).*:UserWarning")
def test_backbone_comes_back_bit_for_bit(name, tmp_path):
    _check_round_trip(NormalEncoder(BACKBONES[name](), 8, 2), tmp_path)


def test_pna_keeps_the_averages_that_a_reset_goes_back_to(tmp_path):
    save(pyg.PNAConv(4, 8, **_PNA), tmp_path)
    aggregation = load(tmp_path).aggr_module
    aggregation.reset_parameters()
    degrees = torch.tensor([1.0, 1, 1, 2, 2, 3])
    torch.testing.assert_close(aggregation.avg_deg_lin, degrees.mean()[None])
    torch.testing.assert_close(aggregation.avg_deg_log, (degrees + 1).log().mean()[None])


def test_frozen_parameters_stay_frozen(tmp_path):
    model = _model(edges=InnerProduct(0.3).requires_grad_(False))
    save(model, tmp_path)
    expected = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: p.requires_grad for name, p in load(tmp_path).named_parameters()} == expected
    assert set(expected.values()) == {True, False}


def _class(name, init, **members):
    return type(name, (nn.Module,), {"__init__": init, **members})


def test_registered_class_comes_back(tmp_path):
    def init(self, network, *, scale=1.0, mask=None):
        nn.Module.__init__(self)
        self.network, self.scale, self.mask = network, scale, mask

    scaled = _class("Scaled", init, forward=lambda self, x: self.network(x) * self.scale * self.mask)
    mask = torch.tensor([0.1] * 8, dtype=torch.double)
    encoder = NormalEncoder(Nodewise(scaled(nn.Linear(4, 8), scale=3.0, mask=mask)), 8, 2).double()
    with pytest.raises(ValueError, match=r"Scaled cannot be saved.*graphvae\.descriptions\.register"):
        save(encoder, tmp_path)
    register(scaled)
    _check_round_trip(encoder, tmp_path)


def _keeps_nothing(self, width):
    nn.Module.__init__(self)
    self.linear = nn.Linear(width, width)


def _hides(self, width=4):
    nn.Module.__init__(self)
    self._size, self.linear = width, nn.Linear(4, 4)


def _hides_in_a_list(self, widths=(4,)):
    nn.Module.__init__(self)
    self.sizes = list(widths)


def _hides_in_a_function(self, kind="relu"):
    nn.Module.__init__(self)
    self.function = getattr(torch, kind)


def _hides_in_a_buffer(self, value=1.0):
    nn.Module.__init__(self)
    self.register_buffer("constant", torch.tensor(value), persistent=False)


def _tied():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


shared = nn.Linear(4, 4)
UNDESCRIBABLE = {
    "argument not kept": (lambda: register(_class("A", _keeps_nothing))(4), "its argument 'width'"),
    "argument under another name": (lambda: register(_class("B", _hides))(5), "'._size' = 5 would be lost"),
    "in a list": (lambda: register(_class("C", _hides_in_a_list))([5]), "would be lost"),
    "in a function": (lambda: register(_class("D", _hides_in_a_function))("tanh"), "would be lost"),
    "in a buffer": (lambda: register(_class("E", _hides_in_a_buffer))(2.0), "would be lost"),
    "tied weights": (_tied, "shared"),
    "shared module": (lambda: nn.Sequential(shared, shared), "shared"),
    "no shape yet": (lambda: pyg.GCN(-1, 8, 2), "without a shape"),
    "activation function": (lambda: pyg.GCN(4, 8, 2, act=torch.tanh), "give functions as modules"),
    "layers changed by hand": (lambda: nn.Sequential(pyg.GCN(4, 8, 2)).append(_edited_gcn()), "would be lost"),
    "aggregation arguments": (lambda: pyg.GCN(4, 8, 2, aggr="softmax", aggr_kwargs={"learn": True}), "would be lost"),
    "code in strings": (lambda: pyg.Sequential("x", [(nn.Linear(4, 4), "x -> x")]), "use graphvae.backbones.Stack"),
}


def _edited_gcn():
    network = pyg.GCN(4, 8, 2)
    network.convs[1].improved = True
    return network


@pytest.mark.parametrize("name", UNDESCRIBABLE)
def test_undescribable_module_is_refused_and_nothing_written(name, tmp_path):
    make, message = UNDESCRIBABLE[name]
    with pytest.raises(ValueError, match="cannot be saved.*" + message.replace(".", r"\.")):
        save(make(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_pickle_is_refused_and_not_executed(name, writer, tmp_path):
    save(_model(), tmp_path)
    with (tmp_path / name).open("wb") as file:
        writer(_Payload(tmp_path / "executed"), file)
    with pytest.raises(ValueError, match=name):
        load(tmp_path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(_Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists(), "the payload itself must work, or this test proves nothing"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_damage_is_detected(name, tmp_path):
    save(_model(), tmp_path)
    content = (tmp_path / name).read_bytes()
    places = torch.randint(len(content), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    flipped = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in places]
    for damaged in [*flipped, content[:-1], content[: len(content) // 2], b""]:
        (tmp_path / name).write_bytes(damaged)
        if name == "model.json" and _parsed(damaged) == json.loads(content):
            continue  # White space.
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(tmp_path)


def _parsed(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def _rewrite(path, weights=None, **changes):
    """A checkpoint by an attacker, or by another version: changed, with a SHA-256 that fits."""
    document = json.loads((path / "model.json").read_text()) | changes
    if weights is not None:
        (path / "model.safetensors").write_bytes(serialise(weights))
    body = json.dumps({k: v for k, v in document.items() if k != "sha256"}, sort_keys=True).encode()
    document["sha256"] = hashlib.sha256((path / "model.safetensors").read_bytes() + body).hexdigest()
    (path / "model.json").write_text(json.dumps(document))


def test_rewritten_checkpoint_with_its_own_hash_loads(tmp_path):
    save(nn.Linear(2, 3), tmp_path)
    _rewrite(tmp_path, {"weight": torch.ones(4, 2), "bias": torch.zeros(4)}, model=describe(nn.Linear(2, 4)))
    assert load(tmp_path).out_features == 4


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "torch.load", "torch.hub.load", "torch.nn.functional.relu"),
        *("torch_geometric.nn.Sequential", "torch.nn.Sequential.__init__", "torch.nn.modules.linear.Linear"),
        *(
            "graphvae.checkpoints.load",
            "graphvae.model.torch",
            "graphvae.encoders.Linear",
            "registered.Nobody",
            "",
            None,
        ),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_class_outside_the_allow_list_is_refused(name, nested, tmp_path):
    save(nn.Linear(2, 3), tmp_path)
    evil = {"class": name, "arguments": {}, "layers": []}
    _rewrite(tmp_path, model=describe(nn.Sequential()) | {"layers": [evil]} if nested else evil)
    with pytest.raises(ValueError, match="unknown class"):
        load(tmp_path)


_LINEAR = {"class": "torch.nn.Linear", "layers": []}
_DEEP = _LINEAR | {"arguments": {}}
for _ in range(150):
    _DEEP = {"class": "torch.nn.Sequential", "arguments": {}, "layers": [_DEEP]}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (5, "not a description"),
        (_LINEAR, "not a description"),
        (_LINEAR | {"arguments": 5}, "must be"),
        (_LINEAR | {"arguments": {}, "layers": 5}, "must be"),
        (_LINEAR | {"arguments": {"in_features": -1, "out_features": 2}}, "cannot be built"),
        (_LINEAR | {"arguments": {"in_features": "x", "out_features": 2}}, "cannot be built"),
        (_LINEAR | {"arguments": {"nonsense": 1}}, "cannot be built"),
        (_LINEAR | {"arguments": {"bias": {"tensor": "x", "dtype": "float32"}}}, "not a tensor"),
        (_LINEAR | {"arguments": {"bias": {"tensor": [1], "dtype": "load"}}}, "not a tensor"),
        (_DEEP, "cannot be built"),
    ],
)
def test_bad_description_is_refused(description, message):
    with pytest.raises(ValueError, match=message):
        build(description)


def test_endlessly_nested_files_are_refused(tmp_path):
    save(nn.Linear(2, 3), tmp_path)
    for depth in (400, 100_000):
        layers = '{"class": "torch.nn.Sequential", "arguments": {}, "layers": [' * depth + "]}" * depth
        (tmp_path / "model.json").write_text(
            '{"format": 1, "frozen": [], "sha256": "", "model": %s}' % layers  # noqa: UP031
        )
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("bias"), 'Missing key.*"bias"'),
        (lambda w: w.update(extra=torch.ones(1)), 'Unexpected key.*"extra"'),
        (lambda w: w.update(bias=torch.ones(4)), "size mismatch for bias"),
    ],
)
def test_weights_must_fit(change, message, tmp_path):
    save(nn.Linear(2, 3), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    _rewrite(tmp_path, weights)
    with pytest.raises(ValueError, match=f"(?s)model.safetensors does not fit model.json.*{message}"):
        load(tmp_path)


def test_newer_format_missing_files_and_bad_paths(tmp_path):
    for name in ("model.json", "model.safetensors"):
        save(nn.Linear(2, 3), tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            load(tmp_path)
    save(nn.Linear(2, 3), tmp_path)
    _rewrite(tmp_path, format=2)
    with pytest.raises(ValueError, match=r"format 2, this graphvae reads up to 1; upgrade"):
        load(tmp_path)
    for path in (tmp_path / "model.json", tmp_path / "model.json" / "below"):
        with pytest.raises(ValueError, match="'path' must be a folder that can be written"):
            save(nn.Linear(2, 3), path)


@pytest.mark.parametrize(("method", "survives"), [("write_bytes", True), ("replace", False)])
@pytest.mark.parametrize("call", [1, 2])
def test_interrupted_save(method, survives, call, tmp_path, monkeypatch):
    """The earlier model survives, or, stopped between the two files' renaming, the mixed pair is refused."""
    old, new = nn.Linear(2, 3), nn.Linear(2, 3)
    save(old, tmp_path)
    original, calls = getattr(Path, method), []

    def stop(self, *args):
        calls.append(self)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, stop)
        with pytest.raises(KeyboardInterrupt):
            save(new, tmp_path)
    if survives or call == 1:
        assert torch.equal(load(tmp_path).weight, old.weight)
    else:
        with pytest.raises(ValueError, match="left by an interrupted save"):
            load(tmp_path)
    save(new, tmp_path)
    assert torch.equal(load(tmp_path).weight, new.weight)


def _forbidden(source):
    """Calls and imports that could run code from a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [
            n for n in names if n.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
        ]
        if not isinstance(node, ast.Call):
            continue
        call, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe_torch = call == "torch.load" and keywords.get("weights_only") != "True"
        pickled = keywords.get("allow_pickle", "False") != "False"
        found += [call] if call in ("eval", "exec", "torch_load", "fs.torch_load") or unsafe_torch or pickled else []
    return found


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from pickle import load", "import joblib.numpy_pickle", "eval(x)", "exec(x)"),
        *("torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"),
    ],
)
def test_the_static_check_finds(line):
    assert _forbidden(line)
    assert not _forbidden("torch.load(f, weights_only=True); np.load(f); model.eval(); import json")


def test_no_module_of_the_library_can_unpickle_or_evaluate():
    modules = list(Path(graphvae.__file__).parent.rglob("*.py"))
    assert len(modules) > 10
    assert {str(m): found for m in modules if (found := _forbidden(m.read_text()))} == {}


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_told(device, tmp_path):
    save(NormalEncoder(nn.Linear(2, 3), 3, 2), tmp_path)
    with pytest.raises(ValueError, match=f"'device' must be one that PyTorch sees, got '{device}' .*; use 'cpu'"):
        load(tmp_path, device)
    assert load(tmp_path, torch.device("cpu")).latent == 2
