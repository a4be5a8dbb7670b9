"""Custom resources: definitions, and the objects of the kinds that they bring.

`definitions` checks a CustomResourceDefinition (its schemas: `structural`) and makes rows of kinds of it; `objects`
admits what is written of such a kind, with `values` (pruning, defaults), `fits` (the schema) and `rules` (its
expressions). Nothing else knows how a kind came to be served.
"""
