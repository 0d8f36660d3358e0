"""Sentences that claim something name the row of the ledger or the test that holds it, and those exist.

The pages are the README outside its table of claims, which a tool writes, the pages in docs/, and the
captions of the figures. A row is named by its id, such as ``C1.sharpness``, a test by the path of its file.
"""

import ast
import itertools
import re
from pathlib import Path

import pytest

from dmf_sharpness.experiments import catalog

ROOT = Path(__file__).parents[2]
CLAIMS = ROOT / "src/dmf_sharpness/claims"
MATHEMATICS = sorted(
    {*(ROOT / "docs").glob("*.md")}
    - {ROOT / "docs" / name for name in ("adding_a_claim.md", "cluster.md", "related.md")}
)
"""Pages of which every section has to name a row, a test, or a figure."""
PAGES = sorted(
    {ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {ROOT / "docs/adding_a_claim.md"}
)
"""Pages whose names must exist; that on adding a claim names one that its reader adds."""

ROW = re.compile(r"(?<![\w.])(C[1-6](?:\.[a-z][a-z_]*)?|E\.[a-z][a-z_]*)(?![\w*])")
TEST = re.compile(r"tests/[\w/]+\.py")
FILE = re.compile(r"`([\w./-]+\.(?:py|md|yaml|c|h|smk))`|\]\(([\w./-]+)(?:#[\w-]*)?\)")


def rows_of_the_ledger() -> set[str]:
    """The ids in all calls of ``judged``; in ``f"{claim}.exact"``, every ``C3`` that is passed on."""
    found: set[str] = set()
    for path in {*CLAIMS.glob("*.py")} - {CLAIMS / "judge.py"}:
        calls = [
            node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)
        ]
        ids = [call.args[0] for call in calls if getattr(call.func, "id", "") == "judged"]
        passed_on = [
            argument.value
            for call in calls
            if getattr(call.func, "id", "") != "judged"
            for argument in call.args
            if isinstance(argument, ast.Constant)
        ]
        prefixes = [text for text in passed_on if re.fullmatch(r"C\d|E", str(text))]
        for node in ids:
            match node:
                case ast.Constant(value=name):
                    found.add(name)
                case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=suffix)]):
                    found |= {prefix + suffix for prefix in prefixes}
                case other:
                    raise AssertionError(f"{path.name}: an id of another form: {ast.dump(other)}")
    return found


ROWS = rows_of_the_ledger()
PREFIXES = {row.partition(".")[0] for row in ROWS}


def text_of(page: Path) -> str:
    """The page without the table of claims and without blocks of code."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- claims -->.*<!-- /claims -->", "", text, flags=re.DOTALL)
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def unknown_rows(text: str) -> list[str]:
    return [name for name in ROW.findall(text) if name not in ROWS | PREFIXES]


def missing_files(text: str, folder: Path) -> list[str]:
    """The named files that do not exist, but for results, which a run makes."""
    named = {*TEST.findall(text), *filter(None, itertools.chain(*FILE.findall(text)))}
    made = ("results/", "figures/")
    return sorted(name for name in named if not name.startswith(made) and not exists(name, folder))


def exists(name: str, folder: Path) -> bool:
    """Whether there is a file of this path, or one of this name in the package."""
    starts = [ROOT, folder, ROOT / "src/dmf_sharpness", ROOT / "config", ROOT / "workflow"]
    in_package = "/" not in name and any((ROOT / "src").rglob(name))
    return in_package or any((start / name).exists() for start in starts)


def has_evidence(text: str) -> bool:
    """Whether a text names a row or a test; ``E.*`` stands for all rows of a kind."""
    names = [name for name in ROW.findall(text) if "." in name]
    return bool(names or TEST.search(text) or re.search(r"\b(?:C\d|E)\.\*", text))


def test_the_ids_of_the_ledger_are_found():
    assert len(ROWS) > 40
    assert {"C1.sharpness", "C3.necessary", "C4.exact", "E.least"} <= ROWS
    assert "C2.exact" not in ROWS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_rows_and_files_that_a_page_names_exist(page: Path):
    text = text_of(page)
    assert unknown_rows(text) == []
    assert missing_files(text, page.parent) == []


@pytest.mark.parametrize("figure", [*catalog.figures()])
def test_a_caption_names_rows_that_exist(figure: str):
    caption = re.sub(r"\{([^{}]*)\.\w+\}", r"\1", catalog.figures()[figure].caption)
    assert has_evidence(caption) or "benchmark" in figure
    assert unknown_rows(caption) == []


@pytest.mark.parametrize("page", MATHEMATICS, ids=lambda page: page.name)
def test_every_section_of_the_mathematics_names_its_evidence(page: Path):
    introduction, *sections = re.split(r"^## ", text_of(page), flags=re.MULTILINE)
    bare = [section.partition("\n")[0] for section in sections if not has_evidence(section)]
    assert not bare or has_evidence(introduction), bare


def test_every_result_and_limit_in_the_readme_names_its_evidence():
    text = text_of(ROOT / "README.md")
    results = text.partition("**Results beyond the abstract:**")[2].partition("\n## ")[0]
    points = re.split(r"^- ", results, flags=re.MULTILINE)[1:]
    assert len(points) > 6
    assert [point for point in points if not has_evidence(point)] == []


def test_every_figure_in_the_readme_names_its_evidence():
    figures = re.findall(r"^\| !\[.*$", text_of(ROOT / "README.md"), flags=re.MULTILINE)
    assert len(figures) > 10
    assert [line for line in figures if not has_evidence(line)] == []


def test_every_row_is_named_on_a_page_or_in_a_caption():
    captions = [re.sub(r"[{}]", " ", figure.caption) for figure in catalog.figures().values()]
    texts = " ".join([*map(text_of, PAGES), *captions])
    kinds = set(re.findall(r"`(C\d|E)\.\*`", texts))
    unnamed = {row for row in ROWS if row.partition(".")[0] not in kinds}
    assert unnamed - set(ROW.findall(texts)) == set()


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("rows `C1.sharpness` and C6.law", []),
        ("row `C1.sharpnes`", ["C1.sharpnes"]),
        ("C2, `E.*`", []),
    ],
)
def test_a_name_that_is_no_row_is_found(text: str, unknown: list[str]):
    assert unknown_rows(text) == unknown


def test_a_file_that_is_missing_is_found():
    text = "`network/loss.py`, `tests/project/test_sentences.py`, [it](docs/no.md), tests/no.py"
    assert missing_files(text, ROOT) == ["docs/no.md", "tests/no.py"]
