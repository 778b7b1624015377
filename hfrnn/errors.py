"""What a user can have done wrong.  The message of each is one line, which states the fact."""


class UserError(ValueError):
    """What was asked for cannot be done as it was asked."""


class DataError(UserError):
    """Data that are not there, or not what they should be."""


class RunError(UserError):
    """The folder of a run that cannot be used as it was asked to be."""


class SettingsError(UserError):
    """Settings that do not go together."""


class Unavailable(UserError):
    """Something needs a package, program or device that this machine lacks."""


class CorruptFile(UserError):
    """A file that is not what it should be."""
