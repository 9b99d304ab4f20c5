"""SMILES to graphs and back, by an alphabet of node and edge types; nothing is corrected on the way.

A molecule is a graph of its heavy atoms, kekulised: the type of a node is its element and formal charge, the type of an
edge its bond, and hydrogens are those that valences imply. Atoms are numbered in the order of the canonical SMILES, so
that one molecule has one graph. Stereochemistry, isotopes and atom maps are dropped.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.datasets.chemistry import BONDS, EMPTY, Array, MoleculeTable, failure, parse, rdkit
from graphvae.graphs import Graphs, as_batch, batch_of
from graphvae.layout import Layout
from graphvae.validation import check_positive

if TYPE_CHECKING:
    from PIL.Image import Image

OUTSIDE = "an atom or bond outside the alphabet"
TOO_LARGE = "more atoms than max_atoms"
_NAME = re.compile(r"([A-Z][a-z]?)(?:([+-])([1-9]?))?")
_CHARGES, _NEUTRAL = 64, 32  # Room for charges in the number of an atom, and which of them is 0.


@dataclass(frozen=True)
class Alphabet:
    """What the columns of `x` and the numbers in `edge_type` stand for.

    Args:
        atoms: Node types: an element and its formal charge as in "C", "N+", "O-", "Fe+2".
        bonds: Edge types, of single, double and triple.

    Raises:
        ValueError: No atom, a name that is none, or a name twice.
    """

    atoms: tuple[str, ...]
    bonds: tuple[str, ...] = BONDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", tuple(self.atoms))  # Lists, if they are from JSON.
        object.__setattr__(self, "bonds", tuple(self.bonds))
        if not self.atoms or len(set(self.atoms)) < len(self.atoms):
            raise ValueError(f"'atoms' must be one or more different names, got {list(self.atoms)}")
        if not self.bonds or len(set(self.bonds)) < len(self.bonds) or not set(self.bonds) <= set(BONDS):
            raise ValueError(f"'bonds' must be different names of {', '.join(BONDS)}, got {list(self.bonds)}")
        wrong = [name for name in self.atoms if not _NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"'atoms' must be names such as 'C', 'N+' or 'Fe+2', got '{wrong[0]}'")

    @classmethod
    def of(cls, elements: Array, charges: Array) -> Alphabet:
        """The alphabet of all atoms given, neutral ones first, in the order of the periodic table."""
        found = np.flatnonzero(np.bincount(_number(elements, charges))).tolist()
        atoms = [(number // _CHARGES, number % _CHARGES - _NEUTRAL) for number in found]
        return cls(tuple(atom_name(z, q) for z, q in sorted(atoms, key=lambda atom: (atom[1] != 0, *atom))))

    @cached_property
    def codes(self) -> tuple[tuple[int, int], ...]:
        """Atomic number and formal charge of each node type.

        Raises:
            ImportError: rdkit is not installed.
            ValueError: A name is of no element.
        """
        return tuple(self._code(name) for name in self.atoms)

    @staticmethod
    def _code(name: str) -> tuple[int, int]:
        symbol, sign, size = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]  # Checked at the start.
        try:
            with rdkit("rdBase").BlockLogs():
                number = rdkit().GetPeriodicTable().GetAtomicNumber(symbol)
        except RuntimeError:
            raise ValueError(f"'atoms' must be names of elements, got '{name}'") from None
        return number, 0 if sign is None else int(f"{sign}{size or 1}")


def _number(element: Any, charge: Any) -> Any:
    """One number for an atom, or `(N,)` for as many."""
    return element * _CHARGES + charge + _NEUTRAL


def atom_name(number: int, charge: int = 0) -> str:
    """The name of a node type, such as "C" or "N+"."""
    return str(rdkit().GetPeriodicTable().GetElementSymbol(number)) + _sign(charge)


def _sign(charge: int) -> str:
    return "" if charge == 0 else ("+" if charge > 0 else "-") + (str(abs(charge)) if abs(charge) > 1 else "")


@dataclass(frozen=True)
class ReadMolecules:
    """Molecules as graphs.

    Attributes:
        graphs: A checked batch of G graphs: `x` (N, C) float32 one-hot, `edge_index`, `edge_type` (E,) int64.
        alphabet: What types stand for.
        smiles: G canonical SMILES.
        rows: `(G,)` which row of the source each is, from 0.
        left_out: Rows that are not among them, by reason.
    """

    graphs: Batch
    alphabet: Alphabet
    smiles: list[str]
    rows: Array
    left_out: Mapping[str, list[int]] = field(default_factory=dict)


def from_smiles(
    smiles: Sequence[str], alphabet: Alphabet | None = None, max_atoms: int | None = None, strict: bool = False
) -> ReadMolecules:
    """Reads SMILES into one checked batch of graphs.

    Args:
        smiles: Of connected molecules; pieces of a salt are none.
        alphabet: That of all molecules if None.
        max_atoms: Leave out molecules with more heavy atoms.
        strict: Raise for a row that would be left out.

    Raises:
        ImportError: rdkit is not installed.
        TypeError: One str, or a row that is none.
        ValueError: No row is left, or one is left out and `strict`; the message has the row and why.
    """
    if isinstance(smiles, str):
        raise TypeError(f"'smiles' must be a list of SMILES, got one str; use [{smiles!r}]")
    for row, text in enumerate(smiles):
        if not isinstance(text, str):
            raise TypeError(f"'smiles[{row}]' must be a SMILES, a str, got {text!r}")
    table = parse(smiles)
    read = encode(table, alphabet, max_atoms, lambda: smiles)
    first = min(((rows[0], reason) for reason, rows in read.left_out.items()), default=None)
    if strict and first is not None:
        row, reason = first
        raise ValueError(f"'smiles[{row}]' must be a molecule that a graph can hold, got '{smiles[row]}': {reason}")
    return read


def encode(
    table: MoleculeTable, alphabet: Alphabet | None, max_atoms: int | None, source: Callable[[], Sequence[str]]
) -> ReadMolecules:
    """The molecules of a table that an alphabet and a size allow; errors and other arguments as for `from_smiles`.

    Args:
        table: Of the rows.
        alphabet: As above.
        max_atoms: As above.
        source: Gives the rows, for a message.
    """
    check_positive(max_atoms=max_atoms)
    small = np.diff(table.atom_ptr) <= (max_atoms or np.inf)
    if alphabet is None and small.any():
        inside = _of_molecules(small, table.atom_ptr)
        alphabet = Alphabet.of(table.elements[inside], table.charges[inside])
    types, edge_types, known = _types(table, alphabet)
    left_out: dict[str, list[int]] = defaultdict(list)
    for row, reason in zip(table.left_rows.tolist(), table.left_reasons.tolist(), strict=True):
        left_out[reason].append(row)
    for reason, rows in ((TOO_LARGE, table.rows[~small]), (OUTSIDE, table.rows[small & ~known])):
        if rows.size:
            left_out[reason] = rows.tolist()
    kept = small & known
    if alphabet is None or not kept.any():
        raise ValueError(_nothing_left(left_out, source()))
    graphs = _graphs(table, kept, types, edge_types, len(alphabet.atoms))
    return ReadMolecules(graphs, alphabet, table.smiles[kept].astype(str).tolist(), table.rows[kept], dict(left_out))


def _nothing_left(left_out: Mapping[str, list[int]], source: Sequence[str]) -> str:
    if not left_out:
        return "'smiles' must hold at least one molecule, got none"
    row, reason = min((rows[0], reason) for reason, rows in left_out.items())
    count = sum(map(len, left_out.values()))
    return (
        f"'smiles' must hold a molecule that a graph can hold, all {count} are left out; row {row + 1}, "
        f"'{source[row]}': {reason}"
    )


def _types(table: MoleculeTable, alphabet: Alphabet | None) -> tuple[Array, Array, Array]:
    """Node types `(N,)` and edge types `(M,)`, -1 for none, and which molecules `(G,)` have all of theirs."""
    atoms, bonds = np.full(128 * _CHARGES, -1), np.full(len(BONDS), -1)
    if alphabet is not None:
        for place, (element, charge) in enumerate(alphabet.codes):
            atoms[_number(element, charge)] = place
        for place, name in enumerate(alphabet.bonds):
            bonds[BONDS.index(name)] = place
    types = atoms[_number(table.elements, table.charges)]
    edge_types = bonds[table.bond_types]
    known = np.ones(len(table.rows), dtype=bool)
    for numbers, ptr in ((types, table.atom_ptr), (edge_types, table.bond_ptr)):
        missing = np.flatnonzero(numbers < 0)
        known[np.searchsorted(ptr, missing, side="right") - 1] = False
    return types, edge_types, known


def _graphs(table: MoleculeTable, kept: Array, types: Array, edge_types: Array, num_types: int) -> Batch:
    rows, columns = _of_molecules(kept, table.atom_ptr), _of_molecules(kept, table.bond_ptr)
    layout = Layout.of(torch.from_numpy(np.diff(table.atom_ptr)[kept]))
    layout.one_row_each = layout.num_graphs == layout.num_rows  # None is empty.
    counts = torch.from_numpy(np.diff(table.bond_ptr)[kept])
    ends = torch.from_numpy(table.bonds[columns].astype(np.int64)) + layout.ptr[:-1].repeat_interleave(counts)[:, None]
    x = torch.nn.functional.one_hot(torch.from_numpy(types[rows]), num_types).float()
    edge_index = torch.stack([ends, ends.flip(1)], 1).reshape(-1, 2).T.contiguous()
    edge_type = torch.from_numpy(edge_types[columns]).repeat_interleave(2)
    edge_ptr = torch.nn.functional.pad(2 * counts.cumsum(0), (1, 0))
    return batch_of(x, edge_index, layout, edge_ptr=edge_ptr, edge_type=edge_type)


def _of_molecules(kept: Array, ptr: Array) -> Array:
    """Which atoms or bonds are of the molecules kept."""
    return np.repeat(kept, np.diff(ptr))


def to_smiles(graphs: Graphs, alphabet: Alphabet, connected: bool = False) -> list[str | None]:
    """The canonical SMILES of each graph as it is, None for one that is no molecule; see `written`.

    Args:
        graphs: With one-hot `x` and `edge_type`, on any device.
        alphabet: What types stand for.
        connected: Give None for graphs of more than one part too.
    """
    texts, _ = written(graphs, alphabet)
    return [None if text is None or (connected and "." in text) else text for text in texts]


def written(graphs: Graphs, alphabet: Alphabet) -> tuple[list[str | None], list[str | None]]:
    """The canonical SMILES of each graph, or None, and then why not: rdkit's sanitisation without its corrections.

    Hydrogens fill valences up. Nothing is repaired: no bond is removed, no part chosen, no charge added. So a nitro
    group with a nitrogen of valence 5, which rdkit would rewrite with charges, is no molecule.

    Raises:
        ImportError: rdkit is not installed.
        ValueError: `x` is not one-hot in the alphabet, or edges have no types of its bonds.
    """
    batch = as_batch(graphs)
    types, edge_type = _checked(batch, alphabet)
    source, target = (batch.edge_index - batch.layout.first_rows[batch.edge_index[0]]).cpu().numpy()
    once = source < target
    owners = batch.layout.batch[batch.edge_index[0]].cpu().numpy()[once]
    bond_ptr = np.searchsorted(owners, np.arange(batch.layout.num_graphs + 1)).tolist()
    bonds = np.stack([source[once], target[once], edge_type.cpu().numpy()[once]], 1).tolist()
    atoms, atom_ptr = types.cpu().tolist(), batch.layout.ptr.tolist()
    writer = _Writer(alphabet)
    with rdkit("rdBase").BlockLogs():
        found = [
            writer(atoms[atom_ptr[k] : atom_ptr[k + 1]], bonds[bond_ptr[k] : bond_ptr[k + 1]])
            for k in range(batch.layout.num_graphs)
        ]
    return [text for text, _ in found], [failure for _, failure in found]


def _checked(batch: Batch, alphabet: Alphabet) -> tuple[Tensor, Tensor]:
    """Node types `(N,)` and edge types `(E,)`."""
    x, edge_type, count = batch.x, batch.get("edge_type"), len(alphabet.atoms)
    if x is None or x.size(1) != count:
        found = "none" if x is None else f"{x.size(1)} columns"
        raise ValueError(f"'x' must have a column for each of the {count} atoms of the alphabet, got {found}")
    if not bool(((x == 0) | (x == 1)).all()) or not bool((x.sum(1) == 1).all()):
        raise ValueError("'x' must be one-hot, with a single 1 in each row; make it of types with one_hot(types, C)")
    if edge_type is None:
        raise ValueError(
            "'graphs' must have 'edge_type' (E,), the bond of each column of edge_index as a place in "
            f"alphabet.bonds {alphabet.bonds}; a model needs an edge factor with edge types"
        )
    if edge_type.numel() and int(edge_type.max()) >= len(alphabet.bonds):
        raise ValueError(f"'edge_type' must be below the {len(alphabet.bonds)} bonds, got {int(edge_type.max())}")
    return x.argmax(1), edge_type


class _Writer:
    """Molecules of node and edge types, made by rdkit one at a time."""

    def __init__(self, alphabet: Alphabet) -> None:
        chem = rdkit()
        self._atoms = [chem.Atom(element) for element, _ in alphabet.codes]
        for atom, (_, charge) in zip(self._atoms, alphabet.codes, strict=True):
            atom.SetFormalCharge(charge)
        kinds = (chem.BondType.SINGLE, chem.BondType.DOUBLE, chem.BondType.TRIPLE)
        self._bonds = [kinds[BONDS.index(name)] for name in alphabet.bonds]

    def __call__(self, atoms: list[int], bonds: list[list[int]]) -> tuple[str | None, str | None]:
        if not atoms:
            return None, EMPTY
        chem = rdkit()
        molecule: Any = chem.RWMol()
        for kind in atoms:
            molecule.AddAtom(self._atoms[kind])
        for first, second, kind in bonds:
            molecule.AddBond(first, second, self._bonds[kind])
        reason = failure(molecule)
        return (chem.MolToSmiles(molecule), None) if reason is None else (None, reason)


def drawing(smiles: Sequence[str], columns: int = 5) -> Image:
    """A picture of molecules in rows of `columns`, as a Pillow image: `.save("molecules.png")`.

    Raises:
        ImportError: rdkit is not installed.
        ValueError: A SMILES that rdkit cannot read.
    """
    with rdkit("rdBase").BlockLogs():
        molecules = [rdkit().MolFromSmiles(text) for text in smiles]
    if not molecules or None in molecules:
        found = f"'{smiles[molecules.index(None)]}'" if molecules else "none"
        raise ValueError(f"'smiles' must be readable molecules, got {found}")
    return rdkit("Chem.Draw").MolsToGridImage(molecules, molsPerRow=columns, subImgSize=(200, 200))
