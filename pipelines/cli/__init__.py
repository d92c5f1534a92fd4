"""The command line: a file per command, and the only code of this project's own that knows argparse."""
