"""Stage 6: the ledger, the figures and where they come from, as one HTML file that needs nothing else."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.headers import read_header
from dmf_sharpness.artifacts.provenance import machine, rule_times, shortened, versions
from dmf_sharpness.artifacts.store import ArtifactError, file_digest, write_text
from dmf_sharpness.claims.claim import SAMPLE_SIZE
from dmf_sharpness.claims.ledger import format_number, read_ledger, summary
from dmf_sharpness.experiments.experiment import Experiment, load_experiment
from dmf_sharpness.figures.captions import caption, figures_of
from dmf_sharpness.figures.strip_plot import strip_plot

import jinja2
import yaml
from markupsafe import Markup, escape
from PIL import Image

SCRIPTS = Path(__file__).parent
GROUPS = {
    "C1": "An exact expression for the sharpness at any minimizer",
    "C2": "Equal spectral products are sufficient for flatness",
    "C3": "At depth 2 they are necessary, too",
    "C4": "In deep scalar factorization they are necessary, too",
    "C5": "Flat minima are spectral-norm balanced, not necessarily Frobenius-norm balanced",
    "C6": "Gradient descent escapes from minimizers that are too sharp",
    "E": "Extension: the regularized problem",
}
"""The claims of the paper's abstract, in our words, and what we added."""
PRINTED_DPI, ENLARGED = 300, 1.4
"""Resolution of the figures; a screen is farther from the eye than a page."""

Row = dict[str, Any]


def _family(row: Row) -> str:
    return str(row["id"]).partition(".")[0]


def typeset(text: str) -> Markup:
    """``λ_max``, ``‖M‖^{1−1/L}`` and ``1e-12`` in HTML as one writes them."""
    html = str(escape(text))
    # One letter with an index, or mean_i: names such as flat_many stay.
    index = (
        r"(?:(?<![A-Za-z0-9_.])|(?<=_[a-z])(?=[A-Z]))(mean|max|[A-Za-zΑ-ω])"
        r"_(?:\{([^}]*)\}|([A-Z]|[a-z0-9]+))"
    )
    html = re.sub(index, r"\1<sub>\2\3</sub>", html)
    html = re.sub(r"‖_([*F])(?![A-Za-z])", r"‖<sub>\1</sub>", html)
    html = re.sub(r"\^\{([^}]*)\}", r"<sup>\1</sup>", html)
    return Markup(re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-])0*(\d+)", _power_of_ten, html))


def _power_of_ten(number: re.Match[str]) -> str:
    factor, sign, exponent = number.groups()
    lead = "" if factor == "1" else f"{factor}&#8239;·&#8239;"
    return f"{lead}10<sup>{'−' if sign == '-' else ''}{exponent}</sup>"


def used(row: Row) -> float | None:
    """The share of the tolerance that a row's number takes; none without a number, or at the tolerance 0."""
    measured = row["value"] is not None and row["tolerance"] > 0
    return row["value"] / row["tolerance"] if measured else None


def _share(part: float | None) -> Markup:
    if part is None:
        return Markup("–")
    if part < 0:
        return Markup("none")
    small = 0 < part < 1e-4
    return Markup("&lt; 0.01 %") if small else typeset(f"{format_number(100 * part)} %")


def _sections(rows: list[Row]) -> list[tuple[str, list[tuple[str, str, list[Row]]]]]:
    """The paper's claims and what we added, each by the claims of the abstract that they belong to."""
    papers = [row for row in rows if row["origin"] == "paper"]
    ours = [row for row in rows if row["origin"] != "paper"]
    titled = {"What the paper claims": papers, "What we added": ours}
    return [
        (title, [(name, GROUPS.get(name, ""), list(group)) for name, group in groupby(of, _family)])
        for title, of in titled.items()
        if of
    ]


def _tallies(rows: list[Row]) -> list[tuple[str, int, int]]:
    """How many claims hold, of how many: those of the paper, and those that we added."""
    titled = {"claims of the paper": True, "claims that we added": False}
    found = []
    for title, of_paper in titled.items():
        verdicts = [row["verdict"] for row in rows if (row["origin"] == "paper") == of_paper]
        if verdicts:
            found.append((title, verdicts.count("holds"), len(verdicts)))
    return found


def _linked(text: str, ids: Sequence[str]) -> Markup:
    """A caption as HTML, where the name of a claim leads to its row."""
    names = "|".join(re.escape(name) for name in sorted(ids, key=len, reverse=True))
    link = r'<a href="#\1">\1</a>'
    return Markup(re.sub(rf"\b({names})(?![\w.]*\w)", link, str(typeset(text))))


def _figure(path: Path, rows: list[Row]) -> Row:
    text_chunks, width, height = _opened(path)
    source = text_chunks.get("Source", "")
    text = caption(path.stem, rows)
    return {
        "name": path.stem,
        "data": base64.b64encode(path.read_bytes()).decode(),
        "alt": re.split(r"[.:] ", text, maxsplit=1)[0],
        "caption": _linked(text, [row["id"] for row in rows]),
        "source": source,
        "pixels": (width, height),
        "shown": f"{width / PRINTED_DPI * ENLARGED:.2f}in",
    }


def _opened(path: Path) -> tuple[Mapping[str, str], int, int]:
    """The texts in a PNG, its width and its height."""
    try:
        with Image.open(path) as image:
            image.verify()  # Every byte; what is read next is only the beginning.
        with Image.open(path) as image:
            return image.text, image.width, image.height  # type: ignore[attr-defined]
    except (OSError, AttributeError, SyntaxError):
        raise ArtifactError(path, "figure", "expected a readable PNG") from None


def check_ledger(path: Path, rows: list[Row], tables: Sequence[Path]) -> None:
    """Make sure that the ledger was judged from the tables at hand, by the code at hand.

    Args:
        path: The ledger.
        rows: Its rows.
        tables: The tables that it must have been judged from, all of them; none are not compared.

    Raises:
        ArtifactError: It was not; the message names the files and the command that mends it.
    """
    for row in rows:
        _check_sources(path, "claims", row["artifacts"])
    lineage.check_consistent(SCRIPTS, {str(table): read_header(table) for table in tables})
    roots = lineage.stage_sources("judge_claims", SCRIPTS)
    expected = lineage.expected_lineage(roots, tables)
    if tables and (
        expected is None or {row["lineage"] for row in rows} != {lineage.marker(expected)}
    ):
        raise ArtifactError(
            path, "claims", "judged from other tables or by other code than at hand"
        )


def check_figure(path: Path) -> None:
    """Make sure that a figure was drawn from the tables at hand, by the code at hand.

    Raises:
        ArtifactError: It was not; the message names the files and the command that mends it.
    """
    try:
        made = json.loads(_opened(path)[0]["Lineage"])
        code, made_from = made["code"], made["made_from"]
    except (KeyError, ValueError, TypeError):
        raise ArtifactError(path, "figure", "expected a lineage in the file, got none") from None
    _check_sources(path, "figure", made_from)
    roots = lineage.stage_sources("render_figure", SCRIPTS, path.stem)
    if code != lineage.code_digest(*roots):
        raise ArtifactError(path, "figure", "drawn by another version of the code")


def _check_sources(path: Path, kind: str, made_from: Mapping[str, str]) -> None:
    """Hold what a result was made from against the files at hand, as far as they are there."""
    for source, digest in made_from.items():
        at_hand = lineage.digest_at_hand(Path(source))
        if at_hand is not None and at_hand != digest:
            problem = f"made from {source} of digest {digest:.12}, which is {at_hand:.12} now"
            raise ArtifactError(path, kind, problem)


def _experiment(experiment: Experiment) -> Row:
    depths = sorted({len(network.widths) - 1 for network in experiment.networks})
    return {
        "name": experiment.name,
        "description": experiment.description,
        "seed": experiment.seed,
        "networks": len(experiment.networks),
        "depths": ", ".join(map(str, depths)),
        "digest": experiment.digest[:12],
    }


def _ledger(path: Path) -> list[Row]:
    rows = read_ledger(path)
    if not all(isinstance(row.get("artifacts"), dict) and "lineage" in row for row in rows):
        raise ArtifactError(path, "claims", "a ledger that does not say what it was made from")
    return rows


def page(
    rows: list[Row],
    figures: Sequence[Path],
    config: Mapping[str, Any],
    experiments: Sequence[Experiment],
    logs: Path,
    mark: str = "",
) -> str:
    """The report as HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": lambda value: typeset(re.sub("^-", "−", format_number(value))),
        "typeset": typeset,
        "shortened": shortened,
        "used": used,
        "share": _share,
        "strip_plot": lambda row: Markup(strip_plot(row)),
        # A line may end after a comma.
        "breakable": lambda text: Markup(str(escape(text)).replace(",", ",<wbr>")),
    }
    template, style, script = (
        Path(__file__).with_suffix(suffix).read_text(encoding="utf-8")
        for suffix in (".html", ".css", ".js")
    )
    sections = _sections(rows)
    ordered = [row["id"] for _, groups in sections for _, _, group in groups for row in group]
    return environment.from_string(template).render(
        lineage=mark,
        summary=summary(rows),
        tallies=_tallies(rows),
        controls=sum(row["control"]["verdict"] == "fails" for row in rows),
        count=len(rows),
        figures_of=figures_of,
        drawn=[path.stem for path in figures],
        style=Markup(style),
        script=Markup(script),
        sections=sections,
        orders={name: i for i, name in enumerate(ordered)},
        families=[(name, GROUPS.get(name, "")) for name in sorted({_family(row) for row in rows})],
        sampled=sorted({name for row in rows for name in row["experiment"].split(", ")}),
        sample_size=SAMPLE_SIZE,
        figures=[_figure(path, rows) for path in figures],
        config=yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None, width=100),
        experiments=[_experiment(experiment) for experiment in experiments],
        # Not those of rules that an earlier version of the workflow had.
        times=[t for t in rule_times(logs) if (SCRIPTS / f"{t.rule}.py").is_file()],
        versions=versions(),
        machine=machine(),
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
    )


def main() -> None:
    """Read CLAIMS, the figures and the experiments, write OUTPUT."""
    parser = cli.parser(
        __doc__,
        claims="the ledger (JSON), from judge_claims.py",
        output="where to write the report",
    )
    parser.add_argument("--figures", nargs="*", default=[], type=Path, help="figures (PNG)")
    parser.add_argument("--config", type=json.loads, default={}, help="the configuration, as JSON")
    parser.add_argument("--experiments", nargs="*", default=[], type=Path, help="their files")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="the logs of the jobs")
    parser.add_argument(
        "--tables", nargs="*", default=[], type=Path, help="the tables that were judged, to compare"
    )
    args = parser.parse_args()
    rows = _ledger(args.claims)
    check_ledger(args.claims, rows, args.tables)
    lineage.record(args.claims, file_digest(args.claims))
    for figure in args.figures:
        check_figure(figure)
        lineage.record(figure, file_digest(figure))
    experiments = [load_experiment(path) for path in args.experiments]
    mark = lineage.marker(cli.origin(options=args.config))
    html = page(rows, args.figures, args.config, experiments, args.logs, mark)
    write_text(args.output, html)
    cli.log.info("%s: %d figures, %.1f MB", args.output, len(args.figures), len(html) / 1e6)


if __name__ == "__main__":
    cli.run(main)
