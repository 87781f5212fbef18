"""`python -m orchestrator.embedded`: the command line is in cli.py."""

import signal
import sys

# Loading takes a moment. Until the command line listens, Ctrl-C ends us without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from orchestrator.embedded.cli import main_in_sentences  # noqa: E402

if __name__ == "__main__":
    sys.exit(main_in_sentences())
