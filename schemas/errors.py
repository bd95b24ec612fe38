"""Errors whose message is meant for the person who runs Sensorium."""


class DataError(Exception):
    """The data do not allow to go on: the message says what is wrong, where, and what to do.

    It ends the run, unlike the errors of one record, which become dead letters.
    """


class StorageError(Exception):
    """A store cannot be used: the message says which, why, and what to do.

    Never the error of one record: a store that is away makes no dead letters. Nor an OSError, so
    that nobody takes it for a missing or broken file.
    """
