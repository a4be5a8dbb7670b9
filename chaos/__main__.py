"""Where the `sharedfate` command begins: signals wait from here on until somebody can end the command in order."""

from __future__ import annotations

import sys

from chaos import interrupts, outputs


def main() -> None:
    interrupts.block()  # what comes while the command is imported is no reason for a trace
    outputs.keep()
    from chaos.cli import main as command

    try:
        with interrupts.listening():
            command()
    except interrupts.Interrupted as error:
        sys.exit(outputs.settle(error.exit_code))
    except SystemExit as end:
        sys.exit(outputs.settle(end.code))


if __name__ == "__main__":
    main()
