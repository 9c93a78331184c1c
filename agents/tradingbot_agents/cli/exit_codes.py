"""Exit codes: documented in ``docs/command.md`` and stable."""

OK = 0
UNEXPECTED = 1
"""A defect of ours: the traceback is printed."""
BAD_INPUT = 2
"""The command line, the spec, a candle file or market rules: said with field or line, value and remedy."""
DATA_DIRECTORY = 3
"""The data directory is in use, foreign, of another run, or can not be written."""
DATABASE = 4
"""The database does not start, can not be reached, or has a schema that this version does not know."""
GAVE_UP = 5
"""An agent failed again and again, or another process took over. The same command goes on."""
INVARIANT_VIOLATED = 6
"""The run ended, and an invariant of the books does not hold."""
CHECK_FAILED = 7
"""A reality check found something that is not as it should be."""
CHECK_UNKNOWN = 8
"""A reality check could not look everywhere, and found nothing else."""
INTERRUPTED = 130
"""Ctrl-C: what was in flight is finished, the rest is said."""
