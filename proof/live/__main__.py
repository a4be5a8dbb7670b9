from __future__ import annotations

from proof.live.command import main

main()
