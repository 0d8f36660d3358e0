"""What the pages of the site take from elsewhere: captions, claims, public names, texts of the project."""

import ast
import re
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from formulas import displayed, is_formula, mathml
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from dmf_sharpness.figures.captions import caption

ROOT = Path(__file__).parents[2]
PROGRAMS = frozenset({"api", "configuration", "tables", "adding_a_claim", "cluster", "changelog"})
"""Pages about programs; on the others code such as ``λ_max`` is a formula."""
WIDE = frozenset({"claims", "configuration", "related", "tables"})
"""Pages of wide tables, which take the place of the contents at the right."""
PLACES = {
    "../config/README.md": "configuration.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
}
"""Where a text of the project lies on the site."""
ROOMS = {
    "hessian": "The Hessian at a minimizer and elsewhere",
    "network": "Factors, models and their balance",
    "minimizers": "Minimizers",
    "descent": "Gradient descent and where it lands",
}


def claim_rows() -> list[dict[str, str]]:
    """The rows of the ledger, as the README has them; ``origin`` says whose claim it is."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- claims -->")[2].partition("<!-- /claims -->")[0]
    rows = []
    for origin, part in zip(("paper", "ours"), table.split("<details>"), strict=True):
        for line in re.findall(r"^\| \*\*.*\|$", part, flags=re.MULTILINE):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            name = re.match(r"\*\*([\w.]+)\*\*", cells[0])
            assert name is not None, line
            rows.append(
                {
                    "id": name[1],
                    "origin": origin,
                    "sentence": cells[0].removeprefix(name[0]).strip().replace(r"\|", "|"),
                    "rest": "| " + " | ".join(cells[1:]) + " |",
                    "value": cells[1],
                    "n": cells[3],
                    "problems": cells[4],
                }
            )
    return rows


def gallery() -> str:
    """All figures with their captions; those that show a claim of the paper come first."""
    rows = claim_rows()
    numbers = [row | {"value": float(row["value"])} for row in rows]
    paper = {row["id"] for row in rows if row["origin"] == "paper"}
    shown = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["figures"]
    sections: dict[str, list[str]] = {"The paper's claims": [], "Ours": []}
    for name in shown:
        text = caption(name, numbers)
        first = paper & set(re.findall(r"\b(?:C[1-6]|E)(?:\.[a-z_]+)?\b", text))
        sections["The paper's claims" if first else "Ours"].append(
            f"({name})=\n### {name.replace('_', ' ')}\n\n"
            f"```{{image}} ../figures/{name}.png\n"
            f":alt: {re.split(r'[.:] ', text, maxsplit=1)[0]}\n"
            f":width: {_pixels(ROOT / f'figures/{name}.png') // 2}px\n```\n\n"
            f"{linked(as_code(text), {row['id'] for row in rows})}\n\n"
            f"Redraw it: `snakemake -f figures/{name}.png`\n"
        )
    return "\n".join(f"## {title}\n\n" + "\n".join(parts) for title, parts in sections.items())


def _pixels(image: Path) -> int:
    """The width of a PNG, which its header has in four bytes."""
    return int.from_bytes(image.read_bytes()[16:20], "big")


def linked(text: str, ids: set[str]) -> str:
    """A caption, where names of claims lead to their rows."""
    names = "|".join(re.escape(name) for name in sorted(ids, key=len, reverse=True))
    return re.sub(rf"(?<![\w`.])({names})(?![\w.]*\w)", r'<a href="claims.html#\1">\1</a>', text)


def as_code(text: str) -> str:
    """A plain text in Markdown, with its formulas as code."""
    text = text.replace("*", r"\*")
    sign = r"[\w.:{}^'′‖⟨⟩|√₀-₉⁰¹²³⁴-⁹ᵀ⁻−/()∇∂]"
    text = re.sub(
        rf"(?<![\w./]){sign}*(?:[ληδβσμρκγΣã‖][^\s,;.]*|[a-zA-Z][_^][\w{{}}]+|[A-Z]ᵀ|[a-z]²){sign}*",
        lambda found: _as_code(found[0]),
        text,
    )
    # What an operator joins with a formula belongs to it.
    operand, operator = r"[|(]?(?:[\d.e/-]*\d|\w)", "[=<>≤≥≠+−]"
    before = ""
    while text != before:
        before = text
        text = re.sub(rf"`([^`]+)` ({operator} )?`([^`]+)`", r"`\1 \2\3`", text)
        text = re.sub(rf"`([^`]+)` ({operator}) ({operand})(?![\w`/])", r"`\1 \2 \3`", text)
        text = re.sub(rf"(?<![\w`.])({operand}) ({operator}) `([^`]+)`", r"`\1 \2 \3`", text)
    return text


def _as_code(found: str) -> str:
    tail = re.search(r"[,;.:]*$", found)
    end = len(found) - len(tail[0] if tail else "")
    body, rest = found[:end], found[end:]
    while body.endswith(")") and body.count(")") > body.count("("):
        body, rest = body[:-1], ")" + rest
    lead = ""
    while body.startswith("(") and body.count("(") > body.count(")"):
        body, lead = body[1:], lead + "("
    return f"{lead}`{body}`{rest}" if is_formula(body) else found


def claims() -> str:
    """The two tables of the README, with links to the figures of the gallery."""
    head = "| claim | measured | tolerance | n | problems | control | verdict | figure |\n"
    head += "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |\n"
    parts = []

    def sentence(row: dict[str, str]) -> str:
        return as_code(row["sentence"]).replace("|", r"\|")

    for origin, title in (("paper", "Of the paper"), ("ours", "Ours")):
        lines = [
            f'| <span id="{row["id"]}"></span>**{row["id"]}** {sentence(row)} {row["rest"]}'
            for row in claim_rows()
            if row["origin"] == origin
        ]
        text = re.sub(r"\]\(figures/(\w+)\.png\)", r"](gallery.md#\1)", "\n".join(lines))
        parts.append(f"## {title}\n\n{head}{text}\n")
    return "\n".join(parts)


def public_names() -> str:
    """All public names, by the room of the package that they come from, for autodoc."""
    stub = ast.parse((ROOT / "src/dmf_sharpness/__init__.pyi").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {room: [] for room in ROOMS}
    for node in stub.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        found[node.module.partition(".")[0]] += [alias.name for alias in node.names]
    parts = []
    for room, title in ROOMS.items():
        parts.append(f"{title}\n{'-' * len(title)}\n")
        for name in sorted(found[room], key=str.lower):
            kind = "class" if name[0].isupper() else "function"
            members = "\n   :members:" if kind == "class" else ""
            parts.append(f".. auto{kind}:: dmf_sharpness.{name}{members}\n")
    return "\n".join(parts)


def text_of(path: str) -> str:
    """A page of the project without its heading."""
    return (ROOT / path).read_text(encoding="utf-8").partition("\n")[2]


TAKEN = {
    "gallery": (gallery, ("README.md", "config/config.yaml")),
    "claims": (claims, ("README.md",)),
    "api": (public_names, ("src/dmf_sharpness/__init__.pyi",)),
    "changelog": (lambda: text_of("CHANGELOG.md"), ("CHANGELOG.md",)),
    "configuration": (lambda: text_of("config/README.md"), ("config/README.md",)),
}
"""What takes the place of the last paragraph of a page, which says on GitHub where that is found."""


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Put into a page what it takes from elsewhere."""
    if name in TAKEN:
        make, files = TAKEN[name]
        for path in files:
            app.env.note_dependency(str(ROOT / path), docname=name)
        source[0] = source[0].strip().rpartition("\n\n")[0] + "\n\n" + make()
    for there, here in PLACES.items():
        source[0] = source[0].replace(f"]({there}", f"]({here}")
    # On GitHub a page is named by its file, here by its title.
    source[0] = re.sub(r"\[(\w+\.md)\]\(\1\)", r"[](\1)", source[0])
    if name in WIDE:
        source[0] = "---\nhide-toc: true\n---\n\n" + source[0]


def typeset(app: Sphinx, tree: nodes.document) -> None:
    """Turn formulas in code, and indented blocks, into MathML."""
    name = app.env.docname
    if name in PROGRAMS:
        return
    for block in list(tree.findall(nodes.literal_block)):
        # Indented and not fenced; what a tutorial prints looks alike.
        if block.get("language") == "none" and not name.startswith("tutorials/"):
            block.replace_self(_raw(f'<div class="mathematics">{displayed(block.astext())}</div>'))
    for code in list(tree.findall(nodes.literal)):
        if is_formula(code.astext()):
            left, right = _taken(code, -1, r"[(\[“]+$"), _taken(code, 1, r"^[,.;:)\]?!’”]+")
            parts = f"{left}{mathml(code.astext())}{right}".replace("<wbr>", "</span><wbr><span>")
            code.replace_self(_raw(f'<span class="mathematics"><span>{parts}</span></span>'))


def _taken(code: nodes.literal, step: int, pattern: str) -> str:
    """Signs beside a formula, taken out of the text: a line must not break between the two."""
    siblings = code.parent.children
    place = siblings.index(code) + step
    if not 0 <= place < len(siblings) or not isinstance(siblings[place], nodes.Text):
        return ""
    text = siblings[place].astext()
    found = re.search(pattern, text)
    if found is None:
        return ""
    code.parent[place] = nodes.Text(re.sub(pattern, "", text))  # not replace(): texts may be equal
    return escape(found[0])


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def lead_to_pages(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Make links of the pages that a docstring names."""
    lines[:] = [re.sub(r"``docs/(\w+)\.md``", r":doc:`\1`", line) for line in lines]


def plain_types(*described: Any) -> tuple[str, str] | None:
    """Write ``ArrayLike`` as it stands in the code, and not as the union that NumPy makes of it."""
    *_, arguments, result = described
    union = r"~?[\w.]*_Buffer \|.*?bytes \| str\]"
    return arguments and (re.sub(union, "~numpy.typing.ArrayLike", arguments), result)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register with Sphinx."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", lead_to_pages)
    app.connect("autodoc-process-signature", plain_types)
    # Before Sphinx collects the headings, at priority 500: the contents have the formulas, too.
    app.connect("doctree-read", typeset, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
