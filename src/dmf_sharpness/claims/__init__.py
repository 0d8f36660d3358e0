"""The claims, each a function that judges the rows of a table, and the ledger with their verdicts."""
