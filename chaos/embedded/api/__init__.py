"""The embedded cluster's API server.

Read in this order: `server` (a request's way), `rest` (the verbs), `admission` (defaults, validation, service
accounts), `decode` and `schema` (from bytes to typed objects), `patches`, `watching`, `auth`, `streams` (into pods).
"""
