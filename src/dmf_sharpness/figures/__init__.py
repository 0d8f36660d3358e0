"""The figures: each module has ``draw(tables) -> Figure``, which reads tables and computes nothing."""
