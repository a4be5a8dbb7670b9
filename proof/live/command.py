"""`python -m proof.live`: record, then write the page."""

from __future__ import annotations

import argparse
from pathlib import Path

from proof.live.run import PARTS, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sharedfate-proof"), help="where the histories go, or are")
    parser.add_argument("--scale", type=float, default=1.0, help="of the recordings' lengths")
    parser.add_argument(
        "--only", default="", help="record the parts whose names hold one of these, with commas between"
    )
    parser.add_argument("--no-record", action="store_true", help="judge the histories that are there")
    parser.add_argument("--page", type=Path, help="write the page here (docs/judge-live.md)")
    options = parser.parse_args()
    if not options.no_record:
        make(
            [part for part in PARTS if any(word in part.name for word in options.only.split(","))],
            options.out,
            scale=options.scale,
        )
    if options.page:
        from proof.live.page import write

        write(options.out, options.page)


if __name__ == "__main__":
    main()
