"""Errors whose message is meant for the person who runs Sensorium."""


class DataError(Exception):
    """The data do not allow to go on: the message says what is wrong, where, and what to do.

    It ends the run, unlike the errors of one record, which become dead letters.
    """
