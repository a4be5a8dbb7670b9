"""sharedfate as a Chaos Toolkit extension, and a gate on experiments that refuses to be green for a wrong reason.

actions, probes, tolerances   what experiment files name
control                       deploys a mode before the method, keeps the load running, undoes, judges
session                       the one place that holds the engine's run and trial while an experiment runs
gate, witness                 the whole journal, and what the library swallows -> pass, fail or inconclusive
files                         experiment files: loaded, and refused with the path within the file
runner, command, items        the same from Python, from `sharedfate experiment` and from pytest
"""
