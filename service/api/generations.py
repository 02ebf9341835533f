"""The generations of a collection: what was measured of them, and the way back. Knows no SQL."""

from fastapi import APIRouter

from service.api.access import ADMIN, READ
from service.api.dependencies import CodewellDep
from service.api.resources import CertificateOut, GenerationList, GenerationOut, JobOut, RollbackRequest

router = APIRouter(tags=["generations"])


@router.get("/collections/{name}/certificate", dependencies=[READ])
def read_certificate(name: str, codewell: CodewellDep) -> CertificateOut:
    """What was measured of the published codec before it was published."""
    return CertificateOut.of(codewell.generations.published(name))


@router.get("/collections/{name}/generations", dependencies=[READ])
def list_generations(name: str, codewell: CodewellDep) -> GenerationList:
    """Every codec that was trained, newest first: published, kept for a rollback, refused or retired."""
    return GenerationList(generations=[GenerationOut.of(one) for one in codewell.generations.list(name)])


@router.post("/collections/{name}/rollback", status_code=202, dependencies=[ADMIN])
def roll_back(name: str, codewell: CodewellDep, body: RollbackRequest | None = None) -> JobOut:
    """Goes back to a codec that was published before; items that came since get their codes first."""
    return JobOut.of(codewell.jobs.submit_rollback(name, (body or RollbackRequest()).generation))
