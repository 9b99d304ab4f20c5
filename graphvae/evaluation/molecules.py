"""Generated molecules as they are: validity without correction, uniqueness, novelty, and distances to real ones.

`valid` asks for rdkit's sanitisation, hydrogens filled in and nothing repaired, *and* for one connected part. Many
papers count less strictly: they take the largest part, or let rdkit put charges right; `sanitised` is nearer to those.
Uniqueness falls with the number of samples, so that shares of different numbers are not to be compared. Novelty is no
virtue by itself where, as in QM9, the data enumerate what is possible: what real, held-out molecules score is a row
of `honesty`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch_geometric.data import Data

from graphvae.datasets import chemistry
from graphvae.datasets.chemistry import rdkit
from graphvae.datasets.molecules import Molecules
from graphvae.datasets.smiles import Alphabet, written
from graphvae.evaluation.graphs.intervals import wilson
from graphvae.graphs import Graphs
from graphvae.validation import check_positive

Texts: TypeAlias = Sequence[str | None]

DISCONNECTED = "disconnected"
_LEVEL = 0.95


class Fcd(NamedTuple):
    """The Fréchet ChemNet distance, or why there is none."""

    value: float | None
    note: str


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        num_graphs: How many samples.
        sanitised: Share of the samples that pass rdkit's sanitisation.
        valid: Share of the samples that pass and are connected.
        unique: Different molecules among the valid, by canonical SMILES; None if none is valid.
        novel: Share of these that are not in the training set; None if none is valid.
        vun: Different valid molecules that are not in the training set, as a share of the samples.
        counts: Numbers by the same names.
        intervals: 95% intervals by the same names, Wilson's. Samples that repeat one another are no independent trials,
            so those of `unique`, `novel` and `vun` are approximate.
        failures: How many samples are not valid, by reason.
        distances: Total variation, between 0 and 1, of histograms over the valid samples and the reference: of `atoms`
            and `bonds` by kind, `rings` by size, and `sizes`; empty without a reference or valid samples.
        aromatic: Share of the valid samples with an aromatic ring, None if none is valid: what one-shot decoders lose.
        fcd: Of the valid samples and the reference.
    """

    num_graphs: int
    sanitised: float
    valid: float
    unique: float | None
    novel: float | None
    vun: float
    counts: dict[str, int]
    intervals: dict[str, tuple[float, float]]
    failures: dict[str, int]
    distances: dict[str, float]
    aromatic: float | None
    fcd: Fcd

    def row(self) -> dict[str, Any]:
        """As a row of a JSON result."""
        names = ("num_graphs", "sanitised", "valid", "unique", "novel", "vun", "aromatic")
        return {name: getattr(self, name) for name in names} | {
            "counts": dict(self.counts),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "failures": dict(self.failures),
            "distances": dict(self.distances),
            "fcd": self.fcd.value,
            "fcd_note": self.fcd.note,
        }


def evaluate(
    samples: Graphs | Texts,
    train: Graphs | Texts,
    alphabet: Alphabet | None = None,
    reference: Graphs | Texts | None = None,
    fcd: bool = True,
    canonical: bool = False,
) -> Evaluation:
    """Judges generated molecules.

    Args:
        samples: Typed graphs as a model gives them; or SMILES, None for one that is no molecule. Either is judged by
            the same checks: what rdkit would correct in reading it is none, such as a nitrogen of valence 5.
        train: The training set, for novelty. SMILES are read as data sets are, and made canonical.
        alphabet: What the types of graphs stand for; not needed for SMILES.
        reference: Real molecules, best those of the test set, for distances.
        fcd: Whether to compute the Fréchet ChemNet distance too, if the package `fcd` is installed: minutes for tens
            of thousands of molecules. It is under the LGPL, so no extra of this library installs it.
        canonical: `train` and `reference` are canonical SMILES as `Molecules` has them, and are not read again, which
            takes longer than all else. If they are not, samples count as novel that are known.

    Raises:
        ImportError: rdkit is not installed.
        TypeError: What is neither graphs nor SMILES.
        ValueError: No samples, training or reference molecules, or one of the latter that is no molecule; graphs
            without an alphabet or types, see `smiles.written`.
    """
    texts, reasons = _samples(samples, alphabet)
    known = set(_molecules("train", train, alphabet, canonical))
    real = [] if reference is None else _molecules("reference", reference, alphabet, canonical)
    sane = [text for text in texts if text is not None]
    valid = [text for text in sane if "." not in text]
    distinct = set(valid)
    counts = {"sanitised": len(sane), "valid": len(valid), "unique": len(distinct)}
    counts["novel"] = counts["vun"] = len(distinct - known)
    of = {"sanitised": len(texts), "valid": len(texts), "unique": len(valid), "novel": len(distinct), "vun": len(texts)}
    share = {name: counts[name] / of[name] if of[name] else None for name in counts}
    failures = Counter(reason for reason in reasons if reason is not None)
    failures += Counter({DISCONNECTED: len(sane) - len(valid)})
    parsed = _parsed(valid)
    return Evaluation(
        num_graphs=len(texts),
        sanitised=len(sane) / len(texts),
        valid=len(valid) / len(texts),
        unique=share["unique"],
        novel=share["novel"],
        vun=counts["vun"] / len(texts),
        counts=counts,
        intervals={name: wilson(counts[name], of[name], _LEVEL) for name in counts if of[name]},
        failures=dict(failures.most_common()),
        distances=_between(_histograms(parsed), histograms(real)) if valid and real else {},
        aromatic=_aromatic(parsed),
        fcd=_fcd(valid, real) if fcd else Fcd(None, "not asked for"),
    )


def _samples(samples: Graphs | Texts, alphabet: Alphabet | None) -> tuple[Texts, Texts]:
    """Canonical SMILES, None for what is no molecule as it is, and then why."""
    given = _texts("samples", samples)
    return chemistry.uncorrected(given) if given is not None else _written("samples", samples, alphabet)


def _written(name: str, graphs: Graphs | Texts, alphabet: Alphabet | None) -> tuple[Texts, Texts]:
    if alphabet is None:
        raise ValueError(f"'alphabet' must say what the types of '{name}' stand for, got None; see Molecules.alphabet")
    return written(graphs, alphabet)


def _texts(name: str, molecules: Graphs | Texts) -> list[str | None] | None:
    """SMILES, or None for graphs.

    Raises:
        TypeError: Neither.
        ValueError: No molecule at all.
    """
    if isinstance(molecules, str):
        raise TypeError(f"'{name}' must be graphs or a list of SMILES, got one str")
    if isinstance(molecules, Data):
        return None
    if len(molecules) == 0:
        raise ValueError(f"'{name}' must hold at least one molecule, got none")
    wanted = Data if isinstance(next(iter(molecules)), Data) else str
    for row, found in enumerate(molecules):
        if not isinstance(found, wanted) and (wanted is Data or found is not None):
            kind = "a graph, as the first is" if wanted is Data else "a SMILES (str), None or a graph"
            raise TypeError(f"'{name}[{row}]' must be {kind}, got {found!r}")
    return None if wanted is Data else list(molecules)


def _molecules(name: str, molecules: Graphs | Texts, alphabet: Alphabet | None, canonical: bool) -> list[str]:
    """The canonical SMILES of real molecules.

    Raises:
        ValueError: One is no molecule.
    """
    given = _texts(name, molecules)
    if given is None:
        texts, reasons = _written(name, molecules, alphabet)
        shown = [f"a graph that is none ({reason})" for reason in reasons]
    else:
        texts = given if canonical else [text and chemistry.canonical(text) for text in given]
        shown = [repr(text) for text in given]
    for row, text in enumerate(texts):
        if not text:
            raise ValueError(f"'{name}' must hold molecules, its row {row + 1} is {shown[row]}; leave it out")
    return [text for text in texts if text]


def distances(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """Total variation between histograms of two sets of SMILES: `atoms`, `bonds`, `rings`, `sizes`.

    Atoms are told apart by element and charge, bonds as single, double, triple or aromatic, rings by size (a molecule
    without one counts once, as that), sizes by the number of heavy atoms.
    """
    return _between(histograms(first), histograms(second))


def histograms(smiles: Sequence[str]) -> dict[str, Counter[Any]]:
    """Counts of `atoms` by atomic number and charge, `bonds` by order (1.5 if aromatic), `rings` by size, `sizes`."""
    return _histograms(_parsed(smiles))


def _parsed(smiles: Sequence[str]) -> list[Any]:
    chem = rdkit()
    with rdkit("rdBase").BlockLogs():
        return [chem.MolFromSmiles(text) for text in smiles]


def _histograms(molecules: Sequence[Any]) -> dict[str, Counter[Any]]:
    found: dict[str, Counter[Any]] = {name: Counter() for name in ("atoms", "bonds", "rings", "sizes")}
    for molecule in molecules:
        found["atoms"].update((atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in molecule.GetAtoms())
        found["bonds"].update(bond.GetBondTypeAsDouble() for bond in molecule.GetBonds())
        found["rings"].update([len(ring) for ring in molecule.GetRingInfo().AtomRings()] or [0])
        found["sizes"][molecule.GetNumAtoms()] += 1
    return found


def _aromatic(molecules: Sequence[Any]) -> float | None:
    """The share with an aromatic atom."""
    if not molecules:
        return None
    return sum(any(atom.GetIsAromatic() for atom in molecule.GetAtoms()) for molecule in molecules) / len(molecules)


def _between(one: dict[str, Counter[Any]], other: dict[str, Counter[Any]]) -> dict[str, float]:
    return {name: _total_variation(one[name], other[name]) for name in one}


def _total_variation(one: Counter[Any], other: Counter[Any]) -> float:
    if not one or not other:  # Bonds, where every molecule is a single atom.
        return float(bool(one) != bool(other))
    total, of = one.total(), other.total()
    return sum(abs(one[key] / total - other[key] / of) for key in one.keys() | other.keys()) / 2


def _fcd(valid: Sequence[str], real: Sequence[str]) -> Fcd:
    if importlib.util.find_spec("fcd") is None:
        return Fcd(None, "the package fcd (LGPL) is not installed: pip install fcd")
    if min(len(valid), len(real)) < 2:
        return Fcd(None, "needs two valid samples and two reference molecules")
    value = importlib.import_module("fcd").get_fcd(list(valid), list(real))
    return Fcd(float(value), f"{len(valid)} valid samples, {len(real)} reference molecules")


class Honesty(NamedTuple):
    """Rows to print beside those of models, each with its "method", and the share of test molecules that are in train.

    A row that cannot be has None for its shares and says why in its "note".
    """

    rows: list[dict[str, Any]]
    test_in_train: float


def honesty(data: Molecules, num_graphs: int = 10_000, fcd: bool = True, seed: int = 0) -> Honesty:
    """What a perfect memory and real molecules would score, without which no score can be read.

    Args:
        data: A split set; its test part is the reference of distances, its val part, if any, what is held out.
        num_graphs: How many training molecules are copied, drawn without replacement; as many as a model is asked for,
            or all there are.
        fcd: As in `evaluate`.
        seed: Of the draw.
    """
    check_positive(num_graphs=num_graphs)
    order = torch.randperm(len(data.train_smiles), generator=torch.Generator().manual_seed(seed))
    copied = [data.train_smiles[k] for k in order[:num_graphs].tolist()]
    rows = [
        {
            "method": name,
            **evaluate(texts, data.train_smiles, reference=data.test_smiles, fcd=fcd, canonical=True).row(),
        }
        for name, texts in (("train set copied", copied), ("held-out molecules", data.val_smiles))
        if texts
    ]
    unknown: dict[str, Any] = dict.fromkeys(("sanitised", "valid", "unique", "novel", "vun", "aromatic"))
    rows.append(
        {"method": "oracle", **unknown, "note": "there is none: no process that makes these molecules is known"}
    )
    known = set(data.train_smiles)
    return Honesty(rows, sum(text in known for text in data.test_smiles) / len(data.test_smiles))
