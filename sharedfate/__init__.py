"""The public names of sharedfate: `from sharedfate import Kill, scenario`. docs/api.md lists them.

The package itself is `chaos`, as its Chaos Toolkit extension is found under that name; this is the same under the
distribution's.
"""

import chaos
from chaos import __all__ as __all__
from chaos import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaos import *  # noqa: F403


def __getattr__(name: str) -> object:
    """The same object as `chaos` gives."""
    return getattr(chaos, name)


def __dir__() -> list[str]:
    return dir(chaos)
