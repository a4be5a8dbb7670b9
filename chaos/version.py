"""The version, in the one place that holds it: the wheel, the image and `chaos.__version__` take it from here."""

__version__ = "0.1.0"
