"""Runs and clusters that end at random moments, by hundreds: what is left of them, and what was said.

    python -m proof.endings kills --log FILE      runners killed by SIGKILL while they deploy, then `sharedfate clean`
    python -m proof.endings signals --log FILE    SIGINT, SIGTERM and SIGHUP, once to three times, at whole runs

A log holds a line an ending, and what it holds is not done again: a campaign goes in pieces (`--seconds`), and goes on
where it was cut off. Nothing here is judged by the clock, so that other work beside it does no harm.
"""
