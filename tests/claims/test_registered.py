"""Every claim is judged: its module is imported, and there is a table of the name that it gives."""

from importlib import import_module
from pathlib import Path

import dmf_sharpness.claims
from dmf_sharpness.claims import judge
from dmf_sharpness.claims.claim import JUDGES
from dmf_sharpness.experiments import catalog

FOLDER = Path(dmf_sharpness.claims.__path__[0])


def test_every_module_with_claims_is_imported_by_the_judge():
    subjects = [
        path.stem
        for path in FOLDER.glob("*.py")
        if "@judged_from(" in path.read_text(encoding="utf-8").replace("``@judged_from", "")
    ]
    assert len(subjects) >= 4
    for subject in subjects:
        assert vars(judge).get(subject) is import_module(f"dmf_sharpness.claims.{subject}")


def test_every_claim_names_a_table_that_there_is():
    studies = {f"studies/{name}" for name in catalog.studies()}
    assert {table for table, _ in JUDGES} <= {*catalog.TABLES, *studies}


def test_no_function_is_entered_twice():
    functions = [function for _, function in JUDGES]
    assert len(set(functions)) == len(functions)
