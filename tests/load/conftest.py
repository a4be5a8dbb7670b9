"""The fixture of these tests: real servers and loaders as processes."""

from tests.load.programs import programs

__all__ = ["programs"]
