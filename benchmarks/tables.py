"""Writes the tables of README.md and of the docs anew, from the results of the benchmarks.

Usage: python benchmarks/tables.py
A table stands between `<!-- FOLDER -->`, the folder whose `table.py` prints it, and `<!-- end -->`.
"""

import re
import runpy
from pathlib import Path

HERE = Path(__file__).parent
PAGES = [
    page
    for page in (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md")))
    if "<!-- end -->" in page.read_text()
]
_BLOCK = re.compile(r"(<!-- (\d\d_\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The text of a page with its tables as the results make them."""

    def block(found: re.Match[str]) -> str:
        table = runpy.run_path(str(HERE / found.group(2) / "table.py"))["table"]()
        return f"{found.group(1)}\n{table.strip()}\n\n{found.group(3)}"

    return _BLOCK.sub(block, page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
