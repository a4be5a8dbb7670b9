"""Each feature of a mode is shown to work: small checks of one claim each, over the running mesh, and nothing assumed.

`site` gives the checks the mesh and places to look from, `catalogue` runs those that apply to the mode. `caller`,
`sniffer`, `keys`, `dial` and `probe` run inside pods, and start in a moment: hence nothing is imported here.
"""
