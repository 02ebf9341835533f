"""What can be wrong with a codec's input. Knows nothing of HTTP: the service gives these their status."""


class CodecError(ValueError):
    """The root of what codecs and training refuse."""


class BadVectors(CodecError):
    """Vectors of the wrong type, shape or dimension, or holding NaN or infinities."""


class BadCodes(CodecError):
    """Codes of the wrong type or width."""


class BadConfig(CodecError):
    """A configuration value out of range: `field` names it."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class TooFewVectors(CodecError):
    """Not enough vectors to train on."""


class TooLittleTime(CodecError):
    """A training that leaves nothing before it is done was not done in the time it had."""


class DamagedCodec(CodecError):
    """Saved bytes that are cut short, altered, or of another format."""


class TrainingStopped(Exception):
    """The progress callback asked the training to stop."""
