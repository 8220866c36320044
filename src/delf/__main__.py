"""`python -m delf`: the command line, where the `delf` script is not on the path."""

from delf.cli import main

main()
