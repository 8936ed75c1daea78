"""Errors that a user can cause: one line each, what was wrong and what to do."""


class UserError(Exception):
    """A mistake or limit that the user can mend: the commands print one line and exit with `exit_code`."""

    exit_code = 2


class GateError(UserError):
    """A precision or an engine failed its accuracy gate."""

    exit_code = 3


class TrackerError(UserError):
    """The tracker cannot go on: a wrong frame, or a network that gave numbers that are not finite."""
