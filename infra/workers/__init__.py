"""Python workers for runners that start one as a process (--environment_type=PROCESS)."""
