"""Shows that each feature of a mode works: small checks of one claim each, over the running mesh, with nothing assumed.

`context` gives the checks the mesh and debug pods, `catalogue` runs those that apply to the mode.
What runs inside pods is in `programs`, or in `chaos.inpod` where the standard library is enough.
"""
