"""Load: an open-loop loader in a pod of each tenant (`agent`), and who gathers its samples (`collector`)."""
