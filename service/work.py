"""What each kind of job does. Imported by a job's own process: the server starts without what trains."""

from pathlib import Path
from typing import Any

from service.auto import Auto
from service.cut import Cut
from service.generation import Build
from service.job import JobKind
from service.planner import Planner
from service.planning.wish import PlanSpec
from service.rollback import Rollback
from service.settings import Settings
from service.store.database import Database
from service.store.tables import JobRow
from service.swap import Fence, Report


def done(
    settings: Settings, database: Database, job: JobRow, scratch: Path, report: Report, fenced: Fence
) -> tuple[str, dict[str, Any]]:
    """Does what the job is for; its last message and its result."""
    of = database, job.collection_id, job.parameters
    if job.kind == JobKind.PLAN:
        wish = PlanSpec.model_validate(job.parameters)
        plan = Planner(database, job.collection_id, wish, settings).run(report)
        return " ".join(plan.sentences), plan.record()
    if job.kind == JobKind.ROLLBACK:
        return "published", Rollback(*of, report, fenced).run(settings.keep_generations)
    if job.kind == JobKind.CUT:
        cut = Cut(*of, report, fenced)
        return "published", cut.run(keep=settings.keep_generations, most_oversample=settings.max_oversample)
    if Auto.is_asked(*of):
        return "published", Auto(*of, scratch, report, fenced).run(settings)
    build = Build(*of, scratch, report, fenced)
    return "published", build.run(
        settings.train_sample,
        keep=settings.keep_generations,
        most_oversample=settings.max_oversample,
        pictures=settings.pictures,
    )
