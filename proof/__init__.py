"""Long measurements behind the project's claims: `make proof` runs them and commits what they print."""
