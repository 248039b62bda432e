"""The errors privet raises on purpose.

Every message names the offending value and says what to do about it. The command line prints
one as a single line and exits with status 2; anything else that escapes is a bug.
"""


class PrivetError(Exception):
    """Base of every error that privet raises on purpose."""


class OptionError(PrivetError, ValueError):
    """An option, or a combination of options, that makes no sense."""


class UnsuitableError(OptionError):
    """A defense that cannot work on the network at hand."""


class DataError(PrivetError, ValueError):
    """Input data that is missing, malformed, or does not fit its purpose."""


class EvidenceError(PrivetError, ValueError):
    """Signals that cannot support the attack or the figure asked of them."""


class BundleError(PrivetError, ValueError):
    """A protection bundle that is damaged, unsafe, or of an unknown format."""
