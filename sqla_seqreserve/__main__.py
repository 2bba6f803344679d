"""``sqla-seqreserve``, or ``python -m sqla_seqreserve``.

The package can be installed without its command line, whose libraries are the extra ``[cli]``. The
script is installed all the same, so it begins here, with nothing but the standard library.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

# The same as the commands' "could not tell".
_CANNOT_RUN = 2


def main() -> None:
    """Run the command line, or say what it lacks."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        print(
            f"error: {error.name} is not installed, and the command line needs it: "
            'pip install "sqla-seqreserve[cli]"',
            file=sys.stderr,
        )
        sys.exit(_CANNOT_RUN)
    run()


if __name__ == "__main__":
    main()
