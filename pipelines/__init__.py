"""Who runs it: the command line, the whole flow, runner options, progress and reports."""
