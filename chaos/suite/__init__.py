"""The scenarios, as pytest tests that ship with the package: `pytest --pyargs chaos.suite`."""
