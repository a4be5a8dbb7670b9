"""Custom resources: definitions, and the objects of their kinds.

`definitions` validates a CustomResourceDefinition (its schemas: `structural`) and makes its rows of kinds; `objects`
admits writes of such a kind, with `values` (pruning, defaults), `fits` (the schema) and `rules` (its expressions). No
other part knows where a kind came from.
"""
