import copy
import io
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau
from torch_geometric.data import Data

from graphvae import GraphVAE, as_batch, edgeless, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.bounds import masked_elbo
from graphvae.edges import InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.features import BernoulliFeatures, GaussianFeatures, LearnedScale
from graphvae.graphs import density
from graphvae.masking import LinkBatches, MaskedGraphs
from graphvae.objectives import masked_edges, reconstruction
from graphvae.priors import StandardNormal
from graphvae.training import Validation


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


class Zero(nn.Module):
    def forward(self, x, edge_index=None):
        return 0 * x


def _graph(num_nodes, number):
    """A path with a chord; its first feature is its number."""
    path = torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)])
    edges = torch.cat([path, torch.tensor([[0], [num_nodes - 1]])], 1) if num_nodes > 2 else path
    noise = torch.randn(num_nodes, 3, generator=torch.Generator().manual_seed(number)).double()
    x = torch.cat([torch.full((num_nodes, 1), float(number)).double(), noise], 1)
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1))


GRAPHS = [_graph(2 + number % 5, number) for number in range(11)]
VECTORS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double()
LINKS = LinkBatches(_graph(13, 3), batch_size=5, fanouts=(2, 2))
DATA = {
    "one graph": GRAPHS[4],
    "list": GRAPHS,
    "one left over": GRAPHS[:9],
    "vectors": VECTORS,
    "link batches": LINKS,
    "masks": MaskedGraphs(GRAPHS, 0.4),
}


def _model(seed=0, width=8, dropout=0.5):
    torch.manual_seed(seed)
    encoder = NormalEncoder(pyg.GCN(4, width, 2, dropout=dropout, norm="batch_norm"), width, 2)
    features = GaussianFeatures(Nodewise(nn.Linear(2, 4)), 4, 4)
    return GraphVAE(StandardNormal(2), encoder, InnerProduct(0.4), features)


def _same(a, b):
    a, b = (m if isinstance(m, dict) else m.state_dict() for m in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _snapshot(model):
    return copy.deepcopy(model.state_dict())


def _elbo(model, graphs):
    """A function of one's own, which fit takes for any data; the ELBO itself it refuses for batches that hide edges."""
    return elbo(model, graphs)


def _fit(model, data=VECTORS, *args, **options):
    args = args or (() if "objective" in options else (_elbo,))
    return fit(model, data, *args, **({"epochs": 6, "batch_size": 4, "progress": False} | options))


def test_linear_vae_reaches_the_maximum_likelihood_of_ppca():
    torch.manual_seed(0)
    x = (
        torch.randn(200, 2) @ torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]])
        + 0.5 * torch.randn(200, 4)
        + 1
    )
    values = torch.linalg.eigvalsh(x.T.cov(correction=0)).flip(0)
    # Tipping & Bishop, 1999, equations 7 and 8.
    log_likelihood = -0.5 * (4 * math.log(2 * math.pi) + values[:2].log().sum() + 2 * values[2:].mean().log() + 4)
    encoder = NormalEncoder(Nodewise(nn.Identity()), 4, 2)
    model = GraphVAE(StandardNormal(2), encoder, None, GaussianFeatures(Nodewise(nn.Identity()), 2, 4, LearnedScale()))
    nn.init.zeros_(encoder.log_scale.weight)  # A posterior scale that depends on x: a long way from the optimum.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    history = fit(model, x, epochs=500, batch_size=200, optimizer=optimizer, progress=False)
    with torch.no_grad():
        bound = torch.stack([elbo(model, edgeless(x)).mean() for _ in range(300)]).mean()
    assert log_likelihood - 0.04 < bound < log_likelihood + 0.01
    assert len(history.objective) == 500
    assert history.objective[-1] == pytest.approx(float(log_likelihood), abs=0.3)
    assert not model.training


def test_one_graph_reaches_its_density_and_a_list_its_rates():
    encoder = PointEncoder(Zero(), 4, 1)
    model = GraphVAE(StandardNormal(1), encoder, InnerProduct(0.9, network=Zero()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    fit(model, GRAPHS[4], reconstruction, epochs=300, optimizer=optimizer, progress=False)
    assert model.edges.bias.sigmoid().item() == pytest.approx(density(GRAPHS[4]), abs=1e-3)
    graphs = [Data(x=(g.x > 0.3).double(), edge_index=g.edge_index) for g in GRAPHS]
    model = GraphVAE(StandardNormal(1), encoder, None, BernoulliFeatures(Nodewise(Zero()), 1, 4))
    fit(model, graphs, reconstruction, epochs=300, batch_size=4, progress=False)
    rates = torch.cat([g.x for g in graphs]).mean(0)
    torch.testing.assert_close(model.features.logits.bias.sigmoid().detach(), rates, atol=0.03, rtol=0)


def test_each_epoch_sees_every_graph_once_in_a_new_order():
    seen, sizes = [], []

    def spy(model, batch):
        sizes.append(batch.num_graphs)
        for graph in batch.to_data_list():
            number = int(graph.x[0, 0])
            expected = GRAPHS[number]
            assert torch.equal(graph.x, expected.x)
            assert set(map(tuple, graph.edge_index.T.tolist())) == set(map(tuple, expected.edge_index.T.tolist()))
            seen.append(number)
        return elbo(model, batch)

    _fit(_model(), GRAPHS, spy, epochs=2)
    assert sizes == [4, 4, 3] * 2
    assert sorted(seen[:11]) == sorted(seen[11:]) == list(range(11))
    assert len({*map(tuple, (seen[:11], seen[11:], range(11)))}) == 3
    first, seen[:] = seen[11:], []
    _fit(_model(), GRAPHS, spy, epochs=1, seed=1)
    assert seen != first, "seed 1 must not continue where seed 0 went"


@pytest.mark.parametrize("name", DATA)
def test_seeds_and_generators(name, tmp_path):
    models = [_model() for _ in range(3)]
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for model, seed in zip(models, (3, 3, 4), strict=True):
        torch.rand(seed)  # What was drawn outside does not matter.
        state = torch.get_rng_state()
        _fit(model, DATA[name], seed=seed, folder=tmp_path / str(seed), epochs=3)
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
        random.seed(1)
        np.random.seed(1)
        before = None, np.random.get_state()[1].tolist(), random.getstate()
    assert _same(models[0], models[1])
    assert not _same(models[0], models[2])


def test_an_epoch_of_link_batches_has_every_edge_once_as_a_target():
    seen, sizes = [], []

    def spy(model, batch):
        sizes.append(batch.targets.size(1))
        seen.extend(map(tuple, batch.n_id[batch.targets].T.tolist()))
        return masked_edges(model, batch)

    model = _model()
    history = _fit(model, LINKS, spy, epochs=2)
    assert sizes == [5, 4, 4] * 2
    assert sorted(seen[:13]) == sorted(seen[13:]) == sorted(map(tuple, LINKS.targets.T.tolist()))
    assert seen[:13] != seen[13:]
    assert len(history.objective) == 2


@pytest.mark.parametrize(
    ("source", "objective"), [(LINKS, masked_edges), (MaskedGraphs(GRAPHS, 0.4), masked_elbo)], ids=["links", "masks"]
)
def test_sources_of_batches_reach_the_density_of_their_targets(source, objective):
    model = GraphVAE(StandardNormal(1), PointEncoder(Zero(), 4, 1), InnerProduct(0.9, network=Zero()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    fit(model, source, objective, epochs=240 // len(source), optimizer=optimizer, progress=False)
    if source is LINKS:
        expected = 13 / (13 * 12 / 2)
    else:
        edges = density(GRAPHS)
        expected = 0.4 * edges / (1 - 0.6 * edges)  # Among the pairs that are not visible.
    assert model.edges.bias.sigmoid().item() == pytest.approx(expected, rel=0.02)


class StopError(Exception):
    pass


def _stopping(function, call):
    calls = []

    def stopping(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise StopError
        return function(*args, **kwargs)

    return stopping


def _score(model):
    """Noisy, so that the best epoch is seldom the last, and it draws random numbers of its own."""
    return float(elbo(model, as_batch(GRAPHS)).mean() + 3 * torch.randn(()))


def _run(folder, data, epochs=6, objective=_elbo, score=_score, **options):
    model = _model(seed=int((folder / "latest.json").exists()))  # A continued run starts elsewhere.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = CosineAnnealingLR(optimizer, 50)
    settings = {"validation": Validation(score, every=2), "optimizer": optimizer, "scheduler": scheduler}
    history = _fit(model, data, objective, epochs=epochs, folder=folder, **settings)
    return model.state_dict(), history, optimizer.state_dict() | {"rate": scheduler.get_last_lr()}


def _check_equal_runs(a, b):
    assert _same(a[0], b[0])
    assert a[1] == b[1]
    assert all(_same(a[2]["state"][key], b[2]["state"][key]) for key in a[2]["state"])
    assert a[2]["state"].keys() == b[2]["state"].keys() != set()
    assert a[2]["rate"] == b[2]["rate"] != [0.02]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(("part", "epochs", "call"), [("objective", 6, 4), ("objective", 20, 15), ("score", 6, 2)])
def test_interrupted_run_continues_bit_for_bit(name, part, epochs, call, tmp_path):
    whole = _run(tmp_path / "whole", DATA[name], epochs)
    per_epoch = {"one graph": 1, "list": 3, "one left over": 2, "vectors": 8, "link batches": 3, "masks": 1}
    steps = per_epoch[name] if part == "objective" else 1
    stopping = {part: _stopping({"objective": elbo, "score": _score}[part], (call - 1) * steps + 1)}
    with pytest.raises(StopError):
        _run(tmp_path / "parts", DATA[name], epochs, **stopping)
    assert (tmp_path / "parts" / "latest.json").exists()
    _check_equal_runs(_run(tmp_path / "parts", DATA[name], epochs), whole)
    assert len(list((tmp_path / "parts").glob("epoch-*"))) == 1


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [(Accelerator, "save_state", 4), (Path, "write_text", 4), (Path, "replace", 4), (Path, "replace", 1)],
)
def test_run_killed_while_saving_continues_bit_for_bit(owner, method, call, tmp_path, monkeypatch):
    whole = _run(tmp_path / "whole", GRAPHS)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, _stopping(getattr(owner, method), call))
        with pytest.raises(StopError):
            _run(tmp_path / "parts", GRAPHS)
    (tmp_path / "parts" / "epoch-000004").mkdir(exist_ok=True)
    (tmp_path / "parts" / "epoch-000004" / "model.safetensors").write_bytes(b"half")
    _check_equal_runs(_run(tmp_path / "parts", GRAPHS), whole)


def test_early_stopping_and_finished_runs(tmp_path):
    scores, weights = iter([1.0, 3.0, 2.0, 3.0, 9.0]), []

    def score(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        weights.append(_snapshot(model))
        return next(scores)

    validation = Validation(score, every=2, patience=2)
    model, again = _model(), _model(1)
    history = _fit(model, epochs=20, validation=validation, folder=tmp_path)
    assert history.scores == {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0}
    assert (history.best_epoch, len(history.objective), model.training) == (4, 8, False)
    assert _same(model, weights[1])
    assert not _same(model, weights[3])
    assert _fit(again, epochs=20, validation=validation, folder=tmp_path, objective=_stopping(elbo, 1)) == history
    assert _same(again, model)
    assert list(scores) == [9.0]


def test_the_learning_rate_follows_its_scheduler_step_by_step():
    model = _model(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rates = []
    optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    _fit(model, VECTORS, epochs=2, batch_size=10, optimizer=optimizer, scheduler=scheduler)
    assert rates == pytest.approx([0.1 / (1 + step) for step in range(6)])


def test_bad_schedulers_are_refused():
    model, other = _model(), _model()
    optimizer = torch.optim.Adam(model.parameters())
    elsewhere = CosineAnnealingLR(torch.optim.Adam(other.parameters()), 10)
    with pytest.raises(ValueError, match="'scheduler' must be of the 'optimizer'"):
        _fit(model, optimizer=optimizer, scheduler=elsewhere)
    short = OneCycleLR(optimizer, 0.1, total_steps=47)
    with pytest.raises(ValueError, match="'total_steps' for the 48 steps of this training, got 47"):
        _fit(model, optimizer=optimizer, scheduler=short)
    with pytest.raises(TypeError, match="ReduceLROnPlateau waits for a score"):
        _fit(model, optimizer=optimizer, scheduler=ReduceLROnPlateau(optimizer))


def test_free_posteriors_are_trained_on_their_own_rows():
    features = GaussianFeatures(nn.Identity(), 2, 4, LearnedScale())
    model = GraphVAE(StandardNormal(2), FreeNormal(30, 2), features=features)
    _fit(model, VECTORS, epochs=300)
    shuffled = elbo(model, edgeless(VECTORS.roll(1, 0))).mean()
    assert elbo(model, edgeless(VECTORS)).mean() > shuffled + 0.4


class Ramp:
    """The ELBO with a weight of the KL divergence that grows with the epoch."""

    def __init__(self):
        self.asked = []

    def at(self, epoch):
        self.asked.append(epoch)
        return lambda model, graphs: elbo(model, graphs, beta=epoch / 10)


def test_a_schedule_is_asked_for_the_objective_of_each_epoch(tmp_path):
    by_epoch = [_fit(_model(), epochs=1, objective=Ramp().at(epoch)).objective[0] for epoch in (1, 7)]
    assert by_epoch[0] != by_epoch[1]
    ramp, again = Ramp(), Ramp()
    model, continued = _model(), _model()
    whole = _fit(model, objective=ramp, epochs=8)
    assert whole.objective[0] == by_epoch[0]
    assert ramp.asked[-8:] == list(range(1, 9))
    _fit(continued, objective=again, epochs=5, folder=tmp_path)
    assert _fit(continued, objective=again, epochs=8, folder=tmp_path) == whole
    assert again.asked[-3:] == [6, 7, 8]
    assert _same(model, continued)


def test_finished_run_returns_at_once(tmp_path):
    model, again = _model(), _model(1)
    history = _fit(model, folder=tmp_path)
    assert _fit(again, folder=tmp_path, objective=_stopping(elbo, 1)) == history
    assert _same(again, model)
    assert not again.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"width": 5}}, "size mismatch"),
        ({"fit": {"seed": 1}}, "'seed' is 0, not 1"),
        ({"fit": {"batch_size": 5}}, "'batch_size' is 4, not 5"),
        ({"fit": {"epochs": 5}}, "6 epochs, more than the 5"),
        ({"fit": {"data": LINKS}}, "'data' is "),
        ({"file": "latest.json"}, "Expecting value"),
        ({"file": "epoch-000006/model.safetensors"}, ""),
        ({"file": "epoch-000006/optimizer.bin"}, ""),
    ],
)
def test_folder_of_another_run_is_refused_in_one_line(change, message, tmp_path):
    _fit(_model(), folder=tmp_path)
    if "file" in change:
        (tmp_path / change["file"]).write_bytes(b"damaged")
    model = _model(1, **change.get("model", {}))
    before = _snapshot(model)
    with pytest.raises(ValueError, match="'folder' .* holds another or a damaged run: .*" + message) as caught:
        _fit(model, folder=tmp_path, **change.get("fit", {}))
    assert "\n" not in str(caught.value)
    assert _same(model, before)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (VECTORS, {"epochs": 0}, "'epochs' must be positive, got 0"),
        (VECTORS, {"batch_size": 0}, "'batch_size' must be positive, got 0"),
        (VECTORS, {"folder": Path(__file__) / "below"}, "'folder' must be a folder that can be written"),
        (VECTORS[:, :3], {}, "'x' must have the model's 4 features, got 3"),
        (VECTORS[:0], {}, r"'x' must be a \(B, F\) floating-point tensor with B > 0"),
        (VECTORS / 0, {}, "'x' must be finite, got"),
        ([], {}, "'?graphs"),
        ([Data(x=VECTORS, edge_index=torch.tensor([[0], [1]]))], {}, "reverse"),
        (Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2), {}, "features"),
    ],
)
def test_bad_arguments_change_nothing(data, options, message):
    model = _model().train()
    before, state = _snapshot(model), torch.get_rng_state()
    with pytest.raises((ValueError, TypeError), match=message):
        _fit(model, data, **options)
    assert _same(model, before)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("options", [{"every": 0}, {"patience": 0}])
def test_bad_validation_is_refused(options):
    with pytest.raises(ValueError, match="must be positive, got 0"):
        Validation(_score, **options)


def _infinite_gradient(model, values):
    return values + (0 * model.edges.bias).sqrt()


@pytest.mark.parametrize("spoil", [lambda m, v: v * math.nan, lambda m, v: v + math.inf, _infinite_gradient])
def test_not_finite_objective_stops_before_the_step(spoil):
    weights = []

    def objective(model, batch):
        weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        values = elbo(model, batch)
        return spoil(model, values) if len(weights) == 11 else values

    model = _model()
    with pytest.raises(FloatingPointError, match="in epoch 2"):
        _fit(model, VECTORS, objective)
    assert _same(dict(model.named_parameters()), weights[-1])
    assert not _same(weights[-1], weights[-2])


def test_validation_score_that_is_nan_is_refused():
    with pytest.raises(FloatingPointError, match="score became NaN in epoch 2"):
        _fit(_model(), validation=Validation(lambda model: math.nan, every=2))


@pytest.mark.parametrize("call", [10**6, 3])
def test_progress(call, capfd):
    progress, seen = Progress(console=Console(file=io.StringIO())), []

    def objective(model, batch):
        seen.extend(task.completed for task in progress.tasks)
        return elbo(model, batch)

    with pytest.raises(StopError) if call == 3 else capfd.disabled():
        _fit(_model(), GRAPHS[4], _stopping(objective, call), progress=progress)
    assert seen == ([0, 1] if call == 3 else [0, 1, 2, 3, 4, 5])
    assert progress.tasks == []


def test_progress_moves_within_an_epoch():
    progress, seen = Progress(console=Console(file=io.StringIO())), []

    def objective(model, batch):
        seen.extend(task.completed for task in progress.tasks)
        return masked_edges(model, batch)

    _fit(_model(), LINKS, objective, epochs=2, progress=progress)
    assert seen == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    assert seen[3] == 1


def test_sampled_batches_in_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(ValueError, match="'accelerator' must have one process for sampled batches, got 2"):
        _fit(_model(), LINKS, masked_edges, accelerator=Accelerator(cpu=True))


def test_nothing_is_printed_where_there_is_no_terminal(capfd):
    _fit(_model(), GRAPHS[4], progress=True)
    assert capfd.readouterr() == ("", "")


def test_one_accelerator_for_two_trainings(tmp_path):
    accelerator, first, second = Accelerator(cpu=True), _model(0, width=5), _model(1)
    _fit(first, accelerator=accelerator, folder=tmp_path / "first")
    _fit(second, accelerator=accelerator, folder=tmp_path / "second")
    continued, expected = _model(2), _model(1)
    _fit(continued, folder=tmp_path / "second")
    assert _same(continued, second)
    _fit(expected)
    assert _same(expected, second)


def test_graphs_given_are_left_as_they_are():
    batch = as_batch(GRAPHS)
    keys, x, edge_index = set(batch.keys()), batch.x, batch.edge_index

    def objective(model, graphs):
        assert graphs is not batch
        return elbo(model, graphs)

    _fit(_model(), batch, objective)
    assert set(batch.keys()) == keys
    assert batch.x is x
    assert batch.edge_index is edge_index


@pytest.fixture
def bfloat():
    AcceleratorState._reset_state(reset_partial_state=True)  # One per process; it holds the precision.
    yield Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_mixed_precision(bfloat):
    dtypes = set()

    def objective(model, batch):
        dtypes.add(model.posterior(batch).mean.dtype)
        return elbo(model, batch)

    model = _model().float()
    history = _fit(model, VECTORS.float(), objective, accelerator=bfloat, epochs=30)
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float}
    assert history.objective[-1] > history.objective[0] + 1


@pytest.mark.parametrize("source", [lambda g: LinkBatches(g, 2), MaskedGraphs], ids=["links", "masks"])
def test_the_elbo_of_batches_that_lack_edges_is_refused(source):
    with pytest.raises(ValueError, match="'objective' must not be the ELBO for"):
        fit(_model(), source(GRAPHS[4]), epochs=1, progress=False)
