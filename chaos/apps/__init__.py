"""The reference applications: they know nothing of a mesh, and each answer says which pod gave it."""
