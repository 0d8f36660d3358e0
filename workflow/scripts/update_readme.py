"""Put the measured ledger into the README, between its two markers."""

import json
import re

from dmf_sharpness import cli
from dmf_sharpness.artifacts import write_text
from dmf_sharpness.figures.captions import figures_of
from dmf_sharpness.ledger import to_short_markdown


def main() -> None:
    """Read CLAIMS, rewrite README."""
    parser = cli.parser(
        __doc__, claims="the ledger (JSON), from judge_claims.py", readme="the README to update"
    )
    args = parser.parse_args()
    rows = json.loads(args.claims.read_text(encoding="utf-8"))
    table = to_short_markdown(rows, {row["id"]: figures_of(row["id"]) for row in rows})
    text = args.readme.read_text(encoding="utf-8")
    between = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.DOTALL)
    write_text(args.readme, between.sub(lambda marks: marks[1] + table + marks[2], text))


if __name__ == "__main__":
    cli.run(main)
