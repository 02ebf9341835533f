"""Training, and the jobs it runs in. Knows no process."""

from fastapi import APIRouter, Response

from service.api.access import ADMIN, READ
from service.api.dependencies import CodewellDep
from service.api.large import LargeRoute
from service.api.resources import JobList, JobOut, TrainRequest
from service.job import JobKind
from service.planning.wish import PlanSpec

router = APIRouter(tags=["jobs"], route_class=LargeRoute)


class PngResponse(Response):
    """A picture."""

    media_type = "image/png"


@router.post("/collections/{name}/train", status_code=202, dependencies=[ADMIN])
def train(name: str, codewell: CodewellDep, body: TrainRequest | None = None) -> JobOut:
    """Trains a codec on the collection's vectors, measures it, and publishes it where it keeps its contract."""
    asked = (body or TrainRequest()).checked(codewell.catalog.describe(name))
    parameters = asked.model_dump(mode="json", exclude_none=True, by_alias=True)
    return JobOut.of(codewell.jobs.submit(name, JobKind.TRAIN, parameters))


@router.post("/collections/{name}/plan", status_code=202, dependencies=[ADMIN])
def plan(name: str, codewell: CodewellDep, body: PlanSpec | None = None) -> JobOut:
    """Measures codecs of ours and FAISS's on a sample of the collection: which is the cheapest that meets a contract.

    Nothing is published. The job's result is the plan.
    """
    return JobOut.of(codewell.jobs.submit_plan(name, (body or PlanSpec()).stored()))


@router.get("/jobs", dependencies=[READ])
def list_jobs(codewell: CodewellDep, collection: str | None = None) -> JobList:
    """The newest hundred jobs, of one collection or of all."""
    return JobList(jobs=[JobOut.of(job) for job in codewell.jobs.list(collection)])


@router.get("/jobs/{job_id}", dependencies=[READ])
def read_job(job_id: str, codewell: CodewellDep) -> JobOut:
    """How far a job is, and how it ended."""
    return JobOut.of(codewell.jobs.get(job_id))


@router.get("/jobs/{job_id}/pictures/{name}", response_class=PngResponse, dependencies=[READ])
def read_picture(job_id: str, name: str, codewell: CodewellDep) -> PngResponse:
    """A picture that a training drew, as PNG; the job's result lists their names."""
    return PngResponse(codewell.jobs.picture(job_id, name))


@router.delete("/jobs/{job_id}", dependencies=[ADMIN])
def cancel_job(job_id: str, codewell: CodewellDep) -> JobOut:
    """Cancels a job: at once where it is queued, within moments where it runs; an ended one stays as it is."""
    return JobOut.of(codewell.jobs.cancel(job_id))
