"""A collection's encoder and codec for use elsewhere: vectors of texts, codes of vectors, vectors of codes."""

from fastapi import APIRouter

from service.api import intake
from service.api.access import READ
from service.api.dependencies import CodewellDep, CollectionDep
from service.api.encoding_schemas import (
    Codes,
    DecodeRequest,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EncodeRequest,
    VectorsOut,
)
from service.api.large import LargeRoute
from service.api.schemas import LatentList, LatentsRequest

router = APIRouter(tags=["encoding"], route_class=LargeRoute)


@router.post("/collections/{name}/encode", dependencies=[READ])
def encode(body: EncodeRequest, collection: CollectionDep, codewell: CodewellDep) -> Codes:
    """Codes as the collection keeps them, of texts or vectors: for pgvector's `bit`, or an index of your own."""
    vectors, field = intake.to_encode(body, collection, codewell.settings)
    if body.format == "pgvector":
        return Codes(**collection.literals(vectors, field)._asdict())
    return Codes.of(*collection.encode(vectors, field), body.format)


@router.post("/collections/{name}/decode", dependencies=[READ])
def decode(body: DecodeRequest, collection: CollectionDep, codewell: CodewellDep) -> VectorsOut:
    """What is left of vectors in their codes."""
    intake.counted(body.codes, "codes", codewell.settings)
    return VectorsOut.of(collection.decode(body.codes, "codes"))


@router.post("/collections/{name}/latents", dependencies=[READ])
def list_latents(body: LatentsRequest, collection: CollectionDep) -> LatentList:
    """What the latents of a sparse codec stand for, in their items' own words, and how many items have them."""
    return LatentList(latents=collection.commonest_latents(intake.wanted(body.filter), body.limit))


@router.post("/v1/embeddings", dependencies=[READ])
def embeddings(body: EmbeddingsRequest, codewell: CodewellDep) -> EmbeddingsResponse:
    """Vectors of texts as OpenAI's API gives them; the model is a collection, whose encoder is used."""
    texts = intake.texts(body.texts, "input", codewell.settings)
    collection = codewell.catalog.open(body.model, "model")
    intake.check_dimensions(body.dimensions, collection)
    vectors = collection.embed(texts, "input")
    return EmbeddingsResponse.of(body, vectors)
