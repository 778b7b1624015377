"""What a user can have done wrong.  The message of each is one line, which states the fact."""


class UserError(ValueError):
    """The base class: a request that cannot be met as it was made."""


class DataError(UserError):
    """Data that are missing, or not what they should be."""


class RunError(UserError):
    """A folder that cannot be used for the run that was asked for."""


class OtherRun(RunError):
    """The folder holds a run with other settings, or on other data."""


class SettingsError(UserError):
    """Settings that do not go together."""


class Unavailable(UserError):
    """Something needs a package, program or device that this machine lacks."""


class CorruptFile(UserError):
    """A file that is not what it should be."""
