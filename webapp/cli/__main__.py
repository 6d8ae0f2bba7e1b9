"""`python -m webapp.cli`, where the command `tidings` is not on the path."""

from webapp.cli import main

main(prog_name="tidings")
