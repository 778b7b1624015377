"""What the nets learn from: text, handwriting, and tasks.  Every reader raises DataError, and nothing else."""


class DataError(ValueError):
    """The data that was asked for is not there, or not what it should be; one line for the user."""
