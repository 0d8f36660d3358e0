"""The figures: one module each, ``draw(tables) -> Figure``. They read tables and compute nothing."""
