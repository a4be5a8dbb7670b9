"""Where the `sharedfate` command begins: signals wait from here on until somebody can end the command in order."""

from __future__ import annotations

import sys

from chaos import interrupts


def main() -> None:
    interrupts.block()  # what comes while the command is imported is no reason for a trace
    from chaos.cli import main as command

    try:
        with interrupts.listening():
            command()
    except interrupts.Interrupted as error:
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
