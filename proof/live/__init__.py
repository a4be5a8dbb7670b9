"""The judge against the live system: histories of a real deployment, quiet or harmed by a known amount, judged as
trials are.

    python -m proof.live              everything: about 40 minutes, root; the machine must have nothing else to do
    python -m proof.live --scale 0.1  the same in a tenth of the time, to see that it works

`record` makes the histories, `machine` gives the machine something else to do, `harm` has servers misbehave by a known
amount, `cut` takes (baseline, window) pairs out of a history and judges them, `page` writes docs/judge-live.md.
"""
