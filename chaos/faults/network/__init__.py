"""Faults of the network: packets of one proxy, or of one pod, that are lost, delayed or slowed.

`partition` and `degrade` are the faults; `rules` and `delay_line` say what happens in a pod's network namespace;
`helper` runs there, in a privileged pod on the target's node. Nothing needs the netem qdisc, which many kernels lack.
"""
