"""The command line: thin commands that parse, call the library and print.

stdout is the result, stderr everything else. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""


def main() -> None:
    """Run the command line; the entry point of the `delf` script."""
    try:
        from delf.cli.app import main as run
    except KeyboardInterrupt:  # nothing has begun yet
        import sys

        print("delf: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


__all__ = ["main"]
