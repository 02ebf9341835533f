"""Runs queued jobs, each in a spawned process at low priority. Knows no HTTP; a job's state is in the database."""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event, Thread

from models import CodecError, TrainingStopped
from service import pictures
from service.errors import CodewellError, JobNotFound
from service.generation import Build
from service.jobs import Jobs, JobState
from service.settings import Settings
from service.store.database import Database
from service.store.tables import JobRow

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Between looks at the queue and at running processes."""
REPORT_SECONDS = 0.5
"""Between two reports of a running job."""
NICE = 10
"""Added to a job's niceness, so that searches go first."""


class Runner:
    """A thread that starts jobs, and notices when one's process ends without a word."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self._settings = settings
        self._jobs = jobs
        self._stopping = Event()
        self._processes: dict[str, SpawnProcess] = {}
        self._thread = Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        """Takes up what an earlier server left running, then looks for work."""
        self._jobs.requeue_running()
        self._thread.start()

    def stop(self) -> None:
        """Ends running jobs; the next start takes them up again where their checkpoint is."""
        self._stopping.set()
        self._thread.join()
        for process in self._processes.values():
            process.terminate()
            process.join()
        if self._processes:
            self._jobs.requeue_running()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                # Whatever happened (a locked database, say), the next look may succeed; jobs must not end with it.
                log.exception("the job runner could not look at the queue")

    def _look(self) -> None:
        for job_id, process in list(self._processes.items()):
            if process.exitcode is not None:
                process.join()
                del self._processes[job_id]
                if process.exitcode != 0:
                    reason = f"the job's process ended with exit code {process.exitcode}"
                    reason += " (killed; was memory short?)" if process.exitcode == -signal.SIGKILL else ""
                    self._jobs.finish(job_id, JobState.FAILED, reason)
                self._log_end(job_id)
        if self._settings.train_at:
            self._jobs.submit_due_trainings(self._settings.train_at)
        while len(self._processes) < self._settings.max_jobs and (claimed := self._jobs.claim()) is not None:
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=run_job, args=(self._settings, claimed), daemon=True)
            process.start()
            self._processes[claimed] = process
            log.info("job %s started as process %s", claimed, process.pid)

    def _log_end(self, job_id: str) -> None:
        try:
            job = self._jobs.get(job_id)
        except JobNotFound:
            return
        level = logging.WARNING if job.state is JobState.FAILED else logging.INFO
        log.log(level, "job %s (%s of %s) %s: %s", job_id, job.kind, job.collection, job.state, job.message)


def run_job(settings: Settings, job_id: str) -> None:
    """The whole life of a job's process: does the work and writes how it ended."""
    import faiss
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server ends its jobs itself
    os.nice(NICE)
    torch.set_num_threads(settings.cores)
    faiss.omp_set_num_threads(settings.cores)
    database = Database(settings.database)
    jobs = Jobs(database)
    scratch = settings.data_dir / "jobs" / job_id
    try:
        with database.reading() as session:
            job = session.get(JobRow, job_id)
        if job is None:
            return
        build = Build(database, job.collection_id, job.parameters, scratch, _Reporter(jobs, job_id))
        result = build.run(settings.train_sample)
        jobs.finish(job_id, JobState.SUCCEEDED, "published", result, pictures.read(result["pictures"], scratch))
    except TrainingStopped:
        jobs.finish(job_id, JobState.CANCELLED, "cancelled")
    except (CodewellError, CodecError) as error:
        jobs.finish(job_id, JobState.FAILED, str(error))
    except Exception as error:
        log.exception("job %s failed", job_id)
        jobs.finish(job_id, JobState.FAILED, f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        database.close()


class _Reporter:
    """Writes progress now and then, and ends the job where it is unwanted or its server is gone."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._last = 0.0
        self._doing = ""

    def __call__(self, progress: float, message: str) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # leaves the checkpoint, and the row as running: the next server takes it up
        doing = message.partition(":")[0]
        if doing == self._doing and time.monotonic() - self._last < REPORT_SECONDS:
            return
        self._last, self._doing = time.monotonic(), doing
        if not self._jobs.report(self._job_id, progress, message):
            raise TrainingStopped


def remove_leftovers(data_dir: Path, jobs: Jobs) -> None:
    """Deletes scratch folders of jobs that are over."""
    with contextlib.suppress(FileNotFoundError):
        for folder in (data_dir / "jobs").iterdir():
            if not jobs.is_active(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
