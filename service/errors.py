"""Every error a caller can meet, each with its HTTP status. Knows nothing of HTTP beyond that number.

CodewellError            500
├── InvalidInput         422   malformed: names the field and what would be accepted
│   ├── DimensionMismatch
│   ├── NotFinite
│   ├── ZeroVector
│   ├── DuplicateId
│   ├── EmptyBatch
│   ├── NoEncoder              text for a collection that takes vectors only
│   ├── LimitExceeded          more than a setting allows: names the limit and the setting
│   └── BatchRejected          not one item of the batch could be kept
├── AmbiguousLength      400   a body whose end is told in two ways
├── Unauthorized         401   no API key, or none that is valid
├── Forbidden            403   the key is valid and does not allow this
├── NotFound             404
│   ├── CollectionNotFound
│   ├── ItemNotFound
│   ├── JobNotFound
│   ├── KeyNotFound
│   ├── PictureNotFound
│   ├── GenerationNotFound
│   └── AliasNotFound
├── Conflict             409
│   ├── CollectionExists
│   ├── ItemExists             the batch was to insert only
│   ├── SeqConflict            the item is not in the state that the write was meant for
│   ├── BatchConflict          every item that was rejected is one of these two
│   ├── KeyReused              another request had this idempotency key
│   ├── TooFewItems
│   ├── OriginalsDropped       only codes are left, and this needs the vectors
│   ├── NotSparse              latents are those of a sparse codec
│   ├── NotTrained             a code was asked for before there is a codec
│   ├── NoPrefixes             the first bytes of the codes are no codes themselves
│   ├── NotKept                the generation's codes were freed, or never published
│   └── ContractBroken         a codec keeps less than was asked for; nothing was published
├── BuildError           500   a batch build cannot go on
│   ├── TooManyRejects
│   └── DamagedGeneration      a built folder is not what its manifest says
├── ClusterError         502   a Ray cluster cannot be reached, or a node of it cannot do what it is asked
├── SnapshotRefused      500   a snapshot or backup is damaged, of another format, or not of this database
├── TooSlow              408   a body did not come in time
├── TooLarge             413
├── Encoded              415   a body that is compressed
├── Misdirected          421   the server is not trusted with the host name that was called
├── RateExceeded         429   the API key sends more requests than it may: the answer carries Retry-After
├── QuotaExceeded        429   there would be more kept than a setting or the API key allows
├── EncoderMissing       501   an optional package is not installed
├── EncoderFailed        502   the embeddings endpoint did not answer as it should
├── EngineRefused        502   an engine that codes are copied to does not do what it is asked
│   └── EngineAway             it cannot be reached, or the connection was lost
├── Unavailable          503   try again: the answer carries Retry-After
│   ├── Busy                   as much is being done as the server does at once
│   └── OutOfTime              nothing was found within a search's time
└── StorageFull          507
"""

from typing import Any, ClassVar


class CodewellError(Exception):
    """The root: `title` is the kind of error in words, `field` the part of the request it is about."""

    status: ClassVar[int] = 500
    title: str = "Internal error"
    retry_after: int | None = None
    """Seconds after which the same request may succeed; none where waiting does not help."""

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.members: dict[str, object] = {}
        """More that the answer says, such as `committed_through_line`."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is from one process to another, whatever its class asks for where it is raised."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[CodewellError], args: tuple[Any, ...], state: dict[str, Any]) -> CodewellError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidInput(CodewellError):
    """The request is well-formed JSON but its content cannot be used."""

    status = 422
    title = "Invalid input"


class DimensionMismatch(InvalidInput):
    """A vector's length is not the collection's dimension."""

    title = "Dimension mismatch"

    def __init__(self, *, expected: int, got: int, field: str | None = None) -> None:
        super().__init__(f"the collection takes vectors of {expected} numbers, this one has {got}", field=field)
        self.expected = expected
        self.got = got


class NotFinite(InvalidInput):
    """A vector holds NaN or an infinity."""

    title = "Not finite"

    def __init__(self, *, position: int, field: str | None = None) -> None:
        super().__init__(
            f"the number at position {position} is NaN, infinite or beyond float32; every number must be finite",
            field=field,
        )


class ZeroVector(InvalidInput):
    """A vector of length zero has no direction, so cosine cannot rank it."""

    title = "Zero vector"

    def __init__(self, *, field: str | None = None) -> None:
        super().__init__(
            "a zero vector has no direction under cosine (nor has one too short for float32); leave it out, or use the "
            "metric ip or l2",
            field=field,
        )


class DuplicateId(InvalidInput):
    """One batch names an id twice, so which of the two is meant is unknown."""

    title = "Duplicate id"

    def __init__(self, item_id: str, *, field: str | None = None) -> None:
        super().__init__(f"the id {item_id!r} stands earlier in this batch; send each id once a batch", field=field)


class EmptyBatch(InvalidInput):
    """A batch without items, ids or queries."""

    title = "Empty batch"


class NoEncoder(InvalidInput):
    """A text came for a collection that has no text encoder."""

    title = "No text encoder"

    def __init__(self, collection: str, *, field: str | None = None) -> None:
        super().__init__(
            f"collection {collection!r} takes vectors only: send 'vector', or make a collection with an 'encoder'",
            field=field,
        )


class LimitExceeded(InvalidInput):
    """There is more of something in the request than a setting allows; `setting` is its name in lower case."""

    title = "Limit exceeded"

    def __init__(self, detail: str, *, field: str | None, limit: int, setting: str) -> None:
        variable = f"CODEWELL_{setting.upper()}"
        super().__init__(f"{detail}; {variable} raises it", field=field)
        self.members |= {"limit": limit, "setting": variable}


class BatchRejected(InvalidInput):
    """No item of the batch was kept: all were bad, or one was and the batch was atomic."""

    title = "Batch rejected"

    def __init__(self, detail: str, errors: list[dict[str, object]]) -> None:
        super().__init__(detail, field=str(errors[0]["field"]))
        self.members["errors"] = errors


class AmbiguousLength(CodewellError):
    """The request says in two ways where its body ends."""

    status = 400
    title = "Ambiguous length"


class Unauthorized(CodewellError):
    """The request has no API key, or one that is unknown, wrong, expired or revoked: which of these is not said."""

    status = 401
    title = "Unauthorized"


class Forbidden(CodewellError):
    """The API key is valid and does not allow this."""

    status = 403
    title = "Forbidden"


class NotFound(CodewellError):
    """The thing named does not exist."""

    status = 404
    title = "Not found"


class CollectionNotFound(NotFound):
    """No collection or alias has that name."""

    title = "Collection not found"

    def __init__(self, name: str, *, field: str | None = None) -> None:
        super().__init__(
            f"there is no collection or alias {name!r}; GET /collections lists them, the first ingest makes one",
            field=field,
        )


class ItemNotFound(NotFound):
    """The collection has no item with that id."""

    title = "Item not found"

    def __init__(self, item_id: str, *, field: str | None = None) -> None:
        super().__init__(f"the collection has no item with the id {item_id!r}", field=field)


class JobNotFound(NotFound):
    """No job has that id."""

    title = "Job not found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; GET /jobs lists them", field="id")


class KeyNotFound(NotFound):
    """No API key has that id. What was given is not repeated: it may be a key by mistake."""

    title = "API key not found"

    def __init__(self) -> None:
        super().__init__("there is no API key of that id, which is 12 of 0-9a-f; GET /keys lists them", field="id")


class PictureNotFound(NotFound):
    """The job has no picture of that name."""

    title = "Picture not found"


class GenerationNotFound(NotFound):
    """The collection has no such generation, or none yet."""

    title = "Generation not found"


class AliasNotFound(NotFound):
    """No alias has that name."""

    title = "Alias not found"


class Conflict(CodewellError):
    """The request is right, the state of the collection is not."""

    status = 409
    title = "Conflict"


class CollectionExists(Conflict):
    """A collection or alias of that name is there already."""

    title = "Collection exists"


class ItemExists(Conflict):
    """The batch was to insert only, and the item is there."""

    title = "Item exists"

    def __init__(self, item_id: str, *, field: str | None = None) -> None:
        super().__init__(f"there is an item {item_id!r} already; the mode insert replaces none", field=field)


class SeqConflict(Conflict):
    """The item is not in the state that the write was meant for."""

    title = "Item changed"


class BatchConflict(Conflict):
    """Nothing of the batch was written, for its items are not in the state that it was meant for."""

    title = "Batch rejected"

    def __init__(self, detail: str, errors: list[dict[str, object]]) -> None:
        super().__init__(detail, field=str(errors[0]["field"]))
        self.members["errors"] = errors


class KeyReused(Conflict):
    """Another request had this idempotency key."""

    title = "Idempotency key reused"


class TooFewItems(Conflict):
    """There are not enough vectors to train on."""

    title = "Too few items"


class NotTrained(Conflict):
    """A code was asked for of a collection that was never trained."""

    title = "Not trained"

    def __init__(self, collection: str, *, field: str | None = None) -> None:
        super().__init__(f"the collection {collection!r} has no codec yet: train one, then ask again", field=field)


class NoPrefixes(Conflict):
    """Codes were to be cut, and their first bytes are no codes themselves."""

    title = "Codes without prefixes"


class NotSparse(Conflict):
    """Latents were asked for, and the codec has none that mean something by themselves."""

    title = "No sparse codec"

    def __init__(self, collection: str, *, field: str | None = None) -> None:
        super().__init__(f"latents are those of a sparse codec; train {collection!r} with one first", field=field)


class OriginalsDropped(Conflict):
    """Only codes are left, and this needs the vectors."""

    title = "Originals dropped"


class NotKept(Conflict):
    """There is no way back to the generation: its codes were freed, or it was never published."""

    title = "Generation not kept"


class ContractBroken(Conflict):
    """A codec keeps less than its contract asks for: it was measured and not published."""

    title = "Contract broken"

    def __init__(self, detail: str, result: dict[str, Any]) -> None:
        super().__init__(detail, field="contract")
        self.result = result
        """Of the job: the generation's number and its certificate."""


class OtherEncoder(Conflict):
    """The server's text encoder is not the one that the collection was made with."""

    title = "Other text encoder"


class BuildError(CodewellError):
    """A batch build cannot go on; what it has done so far is kept, and the same command goes on from there."""

    title = "Build error"


class TooManyRejects(BuildError):
    """More rows were rejected than the user allows."""

    title = "Too many rejects"


class DamagedGeneration(BuildError):
    """A file of a built generation is missing or not the one that was written; the message names it."""

    title = "Damaged generation"


class ClusterError(CodewellError):
    """A Ray cluster cannot be reached, or one of its nodes cannot do what it is asked."""

    status = 502
    title = "Cluster failed"


class SnapshotRefused(CodewellError):
    """A snapshot or backup is damaged, of another format, or not of this database; the message says which."""

    title = "Snapshot refused"


class TooSlow(CodewellError):
    """The body did not come in the time that the server gives it."""

    status = 408
    title = "Request timeout"


class TooLarge(CodewellError):
    """The body is larger than the server takes."""

    status = 413
    title = "Too large"


class Encoded(CodewellError):
    """The body is compressed: a few bytes could stand for gigabytes."""

    status = 415
    title = "Unsupported content encoding"


class Misdirected(CodewellError):
    """The request is for a host name that the server does not go by."""

    status = 421
    title = "Misdirected request"


class RateExceeded(CodewellError):
    """The API key sends more requests than it may."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QuotaExceeded(CodewellError):
    """There would be more collections, items or bytes than a setting or the API key allows; nothing was written."""

    status = 429
    title = "Quota exceeded"


class EncoderMissing(CodewellError):
    """The text encoder needs a package that is not installed."""

    status = 501
    title = "Text encoder not installed"


class EncoderFailed(CodewellError):
    """The text encoder is there but could not encode."""

    status = 502
    title = "Text encoder failed"


class EngineRefused(CodewellError):
    """An engine that codes are copied to does not do what it is asked; the message says what it said."""

    status = 502
    title = "Engine refused"


class EngineAway(EngineRefused):
    """The engine cannot be reached, or the connection to it was lost; trying again may help."""

    title = "Engine away"


class CutOff(CodewellError):
    """The server ended while it worked on this: it may have been done or not. Of a 503 nothing was kept."""

    status = 500
    title = "Cut off"


class Unavailable(CodewellError):
    """The server cannot do it now and may in `retry_after` seconds."""

    status = 503
    title = "Unavailable"
    retry_after = 1


class Busy(Unavailable):
    """The server does as much at once as its settings let it."""

    title = "Server busy"


class OutOfTime(Unavailable):
    """A search's time was over before anything was found."""

    title = "Out of time"
    left_out: ClassVar[str] = "its time was over: it was not looked for"
    """What is told of a question where others of the same request have an answer."""


class StorageFull(CodewellError):
    """The disk has no room; nothing of the request was kept."""

    status = 507
    title = "Storage full"
