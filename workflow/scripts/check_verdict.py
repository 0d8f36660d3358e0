"""Print the ledger; exit with status 1 if a claim fails or a negative control does not."""

import json

from dmf_sharpness import cli
from dmf_sharpness.artifacts import ArtifactError
from dmf_sharpness.ledger import summary, to_text


def main() -> int:
    """Read CLAIMS, print it, and say by the exit status whether the paper's claims stand."""
    parser = cli.parser(__doc__, claims="the ledger (JSON), from judge_claims.py")
    args = parser.parse_args()
    try:
        rows = json.loads(args.claims.read_text(encoding="utf-8"))
        text, sentence = to_text(rows), summary(rows)
        stands = all(
            row["verdict"] == "holds" and row["control"]["verdict"] == "fails" for row in rows
        )
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(args.claims, "claims", "not a ledger") from None
    print(text)
    print(sentence)
    return 0 if stands else 1


if __name__ == "__main__":
    cli.run(main)
