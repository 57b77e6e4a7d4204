"""The command line: ``eigenmix`` and ``python -m eigenmix``."""

from __future__ import annotations

import signal
import sys

from . import _engine


def main() -> int:
    """Run the command line and return its exit status."""
    # The engine sees to Ctrl-C itself where work can be resumed; elsewhere it ends the process, as it
    # does without an interpreter around.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _engine.main(["eigenmix", *sys.argv[1:]], sys.executable)


if __name__ == "__main__":
    sys.exit(main())
