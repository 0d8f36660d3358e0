"""Print the ledger; exit with status 1 if a claim fails or a negative control does not."""

import json

from dmf_sharpness import cli
from dmf_sharpness.artifacts import ArtifactError
from dmf_sharpness.claims import to_text


def main() -> int:
    """Read CLAIMS, print it, and say by the exit status whether the paper's claims stand."""
    parser = cli.parser(__doc__, claims="the ledger (JSON), from judge_claims.py")
    args = parser.parse_args()
    try:
        rows = json.loads(args.claims.read_text(encoding="utf-8"))
        text = to_text(rows)
        fallen = [row["id"] for row in rows if row["verdict"] != "holds"]
        untested = [row["id"] for row in rows if row["control"]["verdict"] != "fails"]
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(args.claims, "claims", "not a ledger") from None
    print(text)
    if fallen:
        print(f"These claims fail: {', '.join(fallen)}")
    if untested:
        print(f"The negative control of these claims does not fail: {', '.join(untested)}")
    if not fallen and not untested:
        print(f"All {len(rows)} claims hold, and each one's negative control fails.")
    return 1 if fallen or untested else 0


if __name__ == "__main__":
    cli.run(main)
