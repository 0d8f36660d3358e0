"""Print the ledger; exit with status 1 if a claim fails or a negative control does not."""

from dmf_sharpness import cli
from dmf_sharpness.claims.ledger import all_stand, read_ledger, to_verdict


def main() -> int:
    """Read CLAIMS, print it, and say by the exit status whether the paper's claims stand."""
    parser = cli.parser(__doc__, claims="the ledger (JSON), from judge_claims.py")
    args = parser.parse_args()
    rows = read_ledger(args.claims)
    print(to_verdict(rows), end="")
    return 0 if all_stand(rows) else 1


if __name__ == "__main__":
    cli.run(main)
