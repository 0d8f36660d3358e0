"""The site, built by ``make docs``: Sphinx with furo, tutorials executed by myst-nb, the API by autodoc."""

import sys
from importlib import metadata
from pathlib import Path

import ziamath

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "dmf-sharpness"
copyright = "the authors of dmf-sharpness, MIT licence"
release = metadata.version("dmf-sharpness")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
exclude_patterns = ["site"]

# A page whose heading has an anchor can be linked as on GitHub.
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_timeout = 60  # seconds for a cell; a tutorial takes less
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_numpy_docstring = False

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = "dmf-sharpness"
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
# MathML needs a font with the measures of mathematics. STIX Two Math (SIL Open Font License, which is in the
# file) comes with ziamath.
html_static_path = [
    "site/style.css",
    str(Path(ziamath.__file__).parent / "fonts/STIXTwoMath-Regular.ttf"),
]
html_css_files = ["style.css"]
