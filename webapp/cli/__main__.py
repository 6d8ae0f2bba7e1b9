"""`python -m webapp.cli`, where the command `tidings` is not on the path."""

from . import main

main(prog_name="tidings")
