"""Each feature of a mode is shown to work: small checks of one claim each, over the running mesh, and nothing assumed.

`context` gives the checks the mesh and debug pods, `catalogue` runs those that apply to the mode.
The programs that run inside pods are in `chaos.inpod`.
"""
