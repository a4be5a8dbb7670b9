"""Programs of the checks that run in pods of this project's own image, with its libraries: `python -m` and their name.

What runs in anybody's image is in `chaos.inpod`.
"""
