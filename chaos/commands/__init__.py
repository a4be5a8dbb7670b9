"""Sub-commands of `sharedfate` that have a module of their own; chaos.cli registers them."""
