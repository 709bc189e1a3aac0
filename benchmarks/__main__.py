"""Runs the benchmarks named on the command line, or all of them."""

import sys
from importlib import import_module

ALL = ("training", "precision", "decode", "dilated", "mamba", "mod", "experts", "infini", "table")

for name in sys.argv[1:] or ALL:
    import_module(f"benchmarks.{name}").main()
