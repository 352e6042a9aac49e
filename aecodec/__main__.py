"""Entry point of the `aecodec` script and of `python -m aecodec`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C is answered from its first moments on."""
    try:
        from aecodec.cli.main import main as command
    except KeyboardInterrupt:  # nobody else can tell yet
        sys.stderr.write("aecodec: interrupted\n")
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
