"""Every Python snippet of the README and the docs runs, and the README's table is the one the results make."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch):
    """One after another, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "snippet"}
    for number, code in enumerate(re.findall(r"```(?:python|{code-cell})\n(.*?)```", page.read_text(), re.DOTALL), 1):
        exec(compile(code, f"{page.name}, snippet {number}", "exec"), space)


def test_the_elbo_of_the_readme_is_the_one_of_the_library():
    body = re.search(r"```py\n(.*?)```", PAGES[0].read_text(), re.DOTALL).group(1)
    source = (ROOT / "graphvae" / "bounds" / "evidence.py").read_text()
    for line in body.splitlines()[1:]:
        assert line.partition("#")[0].strip() in source


def test_the_tables_come_from_the_results():
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    for page in tables["PAGES"]:
        text = page.read_text()
        assert "<!-- end -->" in text
        assert tables["filled"](text) == text, f"python benchmarks/tables.py writes {page.name} anew"


def test_the_project_speaks_of_itself_alone():
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        assert not re.search(r"(^|[\s\"'(=`])/(work|root|home|tmp)/", page.read_text(), re.MULTILINE), page
