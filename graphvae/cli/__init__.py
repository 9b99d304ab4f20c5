"""The command line, program `graphvae`: one module for each group of commands."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from graphvae import __version__
from graphvae.cli import evaluation, generation, links, vectors


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 2 with one line on bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.command = shlex.join(["graphvae", *words])
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        line = " ".join(str(error).split())
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"graphvae: error: {line}", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphvae", description="Generative models of graphs.")
    parser.add_argument("--version", action="version", version=f"graphvae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    links.add_commands(commands)
    vectors.add_commands(commands)
    generation.add_commands(commands)
    evaluation.add_commands(commands)
    return parser
