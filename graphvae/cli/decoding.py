"""What a saved model of graphs does not say: how its latents are decoded, and what its types stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from graphvae.datasets.smiles import Alphabet

FILE = "decoding.json"


@dataclass(frozen=True)
class Decoding:
    """A file beside a saved model of molecules.

    Attributes:
        atoms: What types of nodes stand for.
        bonds: Likewise of edges.
        most_likely: Whether a latent is decoded to its likeliest graph.
        spanning: Whether that is joined by its likeliest spanning tree.
    """

    atoms: tuple[str, ...]
    bonds: tuple[str, ...]
    most_likely: bool = False
    spanning: bool = False

    @property
    def alphabet(self) -> Alphabet:
        """Of the types."""
        return Alphabet(self.atoms, self.bonds)

    @property
    def settings(self) -> dict[str, bool]:
        """Arguments of `GraphVAE.sample`."""
        return {"most_likely": self.most_likely, "spanning": self.spanning}

    def write(self, folder: Path) -> None:
        """Writes it beside the model in `folder`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def read_decoding(folder: Path) -> Decoding | None:
    """What is written beside the model in `folder`, if anything is.

    Raises:
        ValueError: It is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = Decoding(**json.loads(path.read_text(encoding="utf-8")))
        Alphabet(found.atoms, found.bonds)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not what graphvae generate writes beside a model: {error}") from error
    return found


def in_words(name: str, settings: Mapping[str, bool]) -> str:
    """A line of a legend: how the samples of a model were decoded."""
    if not settings.get("most_likely"):
        return f"{name}: a graph is drawn for each latent."
    tree = ", its nodes joined by the likeliest spanning tree, as published" if settings.get("spanning") else ""
    return f"{name}: each latent is decoded to its likeliest graph{tree}."
