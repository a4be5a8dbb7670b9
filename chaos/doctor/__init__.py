"""What a run needs from a cluster and from this machine, checked before anything is changed.

`access` asks the API server what this user may do; `facts` reads the rest; `findings` is pure: it says for each mode,
fault and scenario whether it can run, and why not. Called by `sharedfate doctor`.
"""
