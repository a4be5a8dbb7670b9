"""The public names of sharedfate: `from sharedfate import Kill, scenario`. docs/api.md lists them.

The package itself is `chaos`, as its Chaos Toolkit extension is found under that name; this is the same under the
distribution's. It is imported when a name is asked for: `sharedfate.plugin` must not import it in a repository that has
a package of its own under that name.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaos import *  # noqa: F403
    from chaos import __all__ as __all__
    from chaos import __version__ as __version__


def __getattr__(name: str) -> object:
    """The same object as `chaos` gives."""
    import chaos

    return getattr(chaos, name)


def __dir__() -> list[str]:
    import chaos

    return dir(chaos)
