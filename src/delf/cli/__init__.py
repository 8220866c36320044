"""The command line: thin commands that parse, call the library and print.

stdout is the result, stderr everything else. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from delf.cli.app import main

__all__ = ["main"]
