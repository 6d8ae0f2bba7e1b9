"""`python -m tidings`, where the command `tidings` is not on the path."""

from .cli import main

main(prog_name="tidings")
