"""Load: an open-loop loader in a pod of each tenant (`agent`), and the runner's side that gathers its samples
(`collector`).
"""
