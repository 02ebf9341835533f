"""Runs queued jobs, each in a spawned process at low priority. Knows no HTTP; a job's state is in the database."""

import logging.config
import multiprocessing
import os
import shutil
import signal
import time
import uuid
from collections.abc import Set
from contextlib import suppress
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Event, Thread
from typing import IO, cast

from models import CodecError, TrainingStopped
from service import pictures
from service.cores import cores_of_a_job
from service.errors import CodewellError, ContractBroken, JobNotFound, Unavailable
from service.files import locked
from service.job import JobState
from service.job_queue import Claim, JobQueue, fence
from service.jobs import Jobs
from service.log import log_config
from service.notices import Notices
from service.settings import Settings
from service.store.database import Database
from service.store.tables import JobRow
from service.upkeep import purge_logs

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Between looks at the queue and at running processes."""
PAUSE_SECONDS = 1
"""After a look that failed."""
REPORT_SECONDS = 0.5
"""Between two reports of a running job."""
BEATS = 10
"""In the seconds of a lease: a runner that misses so many in a row is taken for gone."""
TIDY_SECONDS = 60
PUT_BACK = (os.EX_TEMPFAIL, -signal.SIGTERM, -signal.SIGINT)
"""How a job's process ends that is to be started again: the database was away, or the whole group was told to end."""
NICE = 10
"""How much nicer a job is than its server, so that searches go first."""


class Runner:
    """A thread that starts jobs, and notices when one's process ends without a word.

    Of the processes over one folder of jobs the one that holds its lock runs them; when that ends, another takes over.
    Runners of other machines are known by their beats, which need no clock in common.
    """

    def __init__(self, settings: Settings, database: Database, jobs: Jobs, queue: JobQueue) -> None:
        self._database = database
        self._settings = settings
        self._jobs = jobs
        self._queue = queue
        self._owner = ""
        self._lock: IO[str] | None = None
        self._leads = False
        """It has the lock, and has put back what was left running."""
        self._last_beat = 0.0
        self._last_tidy = 0.0
        self._beats: dict[Claim, tuple[int, float]] = {}
        """Of other runners' jobs: the beat that was last seen, and since when."""
        self._stopping = Event()
        self._processes: dict[Claim, SpawnProcess] = {}
        self._thread = Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        """Takes up what an earlier server left running, then looks for work; where another process does so, waits."""
        self._thread.start()

    def stop(self) -> None:
        """Ends running jobs; the next start takes them up again where their checkpoint is."""
        self._stopping.set()
        self._thread.join()
        for process in self._processes.values():
            process.terminate()
            process.join()
        if self._processes:
            try:
                self._queue.requeue_of(self._owner, crashed=False)
            except Unavailable as error:
                log.warning("jobs that were running stay so until the next start: %s", error)
        if self._lock is not None:
            self._lock.close()

    def _run(self) -> None:
        failed = False
        while not self._stopping.wait(PAUSE_SECONDS if failed else LOOK_SECONDS):
            try:
                if self._elected():
                    self._beat()  # before what may wait for a lock, or another machine would take its jobs
                    self._look()
                    self._tidy()
                failed = False
            except Exception:
                # Whatever happened (a locked database, say), the next look may succeed; jobs must not end with it.
                if not failed:
                    log.exception("the job runner could not look at the queue; going on trying")
                failed = True

    def _tidy(self) -> None:
        if time.monotonic() - self._last_tidy > TIDY_SECONDS:
            self._last_tidy = time.monotonic()
            purge_logs(self._database)
            running = {claim.job_id for claim in self._processes}
            remove_leftovers(self._settings.jobs_dir, self._queue, running)
            self._database.shorten_log()

    def _elected(self) -> bool:
        if self._lock is None:
            self._lock = locked(self._settings.jobs_dir / "lock", wait=False)
        if self._lock is not None and not self._leads:
            self._owner = owner_of(self._settings.jobs_dir)
            self._queue.requeue_of(self._owner, crashed=True)
            remove_leftovers(self._settings.jobs_dir, self._queue)
            self._leads = True
        return self._leads

    def _beat(self) -> None:
        now = time.monotonic()
        lease = self._settings.lease_seconds
        if now - self._last_beat < lease / BEATS:
            return
        self._last_beat = now
        seen = self._beats
        self._beats = {}
        for claim, beat in self._queue.beat(self._owner).items():
            before, since = seen.get(claim, (beat, now))
            self._beats[claim] = (beat, since if beat == before else now)
            if now - self._beats[claim][1] > lease:
                log.warning("job %s has not been heard of for %s seconds; taking it up", claim.job_id, lease)
                self._queue.requeue(claim, crashed=True)

    def _look(self) -> None:
        for ended, process in list(self._processes.items()):
            if (code := process.exitcode) is not None:
                process.join()
                if code in PUT_BACK:
                    self._queue.requeue(ended, crashed=False)
                elif code == -signal.SIGKILL:  # somebody did so, or the system, which was short of memory
                    log.warning("the process of job %s was killed; it is taken up again", ended.job_id)
                    self._queue.requeue(ended, crashed=True)
                elif code:
                    self._queue.finish(ended, JobState.FAILED, f"the job's process ended with exit code {code}")
                del self._processes[ended]
                self._log_end(ended.job_id)
        if self._settings.train_at:
            self._jobs.submit_due_trainings(self._settings.train_at)
        while len(self._processes) < self._settings.max_jobs and (claim := self._queue.claim(self._owner)) is not None:
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=run_job, args=(self._settings, claim), daemon=True)
            with cores_of_a_job(self._settings):
                process.start()
            self._processes[claim] = process
            _put_behind(process)
            log.info("job %s started as process %s", claim.job_id, process.pid)

    def _log_end(self, job_id: str) -> None:
        try:
            job = self._jobs.get(job_id)
        except JobNotFound:
            return
        level = logging.WARNING if job.state is JobState.FAILED else logging.INFO
        log.log(level, "job %s (%s of %s) %s: %s", job_id, job.kind, job.collection, job.state, job.message)


def run_job(settings: Settings, claim: Claim) -> None:
    """The whole life of a job's process: does the work and writes how it ended."""
    import faiss
    import torch

    from service.work import done

    logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server ends its jobs itself
    torch.set_num_threads(settings.cores)
    faiss.omp_set_num_threads(settings.cores)
    database = Database(settings.database)
    queue = JobQueue(database, Notices(database, wanted=settings.webhook_url is not None))
    scratch = settings.jobs_dir / claim.job_id
    scratch.mkdir(parents=True, exist_ok=True)
    working = locked(scratch / "lock")  # an earlier start whose server was killed ends at its next report
    try:
        with database.reading() as session:
            job = session.get(JobRow, claim.job_id)
        if job is None:
            raise TrainingStopped
        message, result = done(settings, database, job, scratch, _Reporter(queue, claim), partial(fence, claim))
        drawn = pictures.read(result.get("pictures", []), scratch)
        queue.finish(claim, JobState.SUCCEEDED, message, result, drawn)
    except ContractBroken as broken:
        drawn = pictures.read(broken.result["pictures"], scratch)
        queue.finish(claim, JobState.FAILED, str(broken), broken.result, drawn)
    except TrainingStopped:
        queue.finish(claim, JobState.CANCELLED, "cancelled")
    except Unavailable:
        os._exit(os.EX_TEMPFAIL)  # leaves the checkpoint: the job is taken up again
    except (CodewellError, CodecError) as error:
        queue.finish(claim, JobState.FAILED, str(error))
    except Exception as error:
        log.exception("job %s failed", claim.job_id)
        queue.finish(claim, JobState.FAILED, f"{type(error).__name__}: {error}")
    shutil.rmtree(scratch, ignore_errors=True)
    if working is not None:
        working.close()
    database.close()


def _put_behind(process: SpawnProcess) -> None:
    """Lowers its priority. By itself it could do so only once it has imported the packages, some seconds of a core."""
    with suppress(ProcessLookupError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, cast("int", process.pid), os.getpriority(os.PRIO_PROCESS, 0) + NICE)


class _Reporter:
    """Writes progress now and then, and ends the job where it is unwanted or its server is gone."""

    def __init__(self, queue: JobQueue, claim: Claim) -> None:
        self._queue = queue
        self._claim = claim
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
        if not self._queue.report(self._claim, progress, message):
            raise TrainingStopped


def remove_leftovers(jobs_dir: Path, queue: JobQueue, running: Set[str] = frozenset()) -> None:
    """Deletes scratch folders of jobs that are over and whose process is."""
    for folder in jobs_dir.iterdir():
        if folder.is_dir() and folder.name not in running and not queue.is_active(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def owner_of(jobs_dir: Path) -> str:
    """What jobs of this folder are owned by: drawn once, since names of hosts and paths repeat from box to box."""
    file = jobs_dir / "owner"
    if not file.exists() or not file.read_text().strip():
        file.write_text(uuid.uuid4().hex)
    return file.read_text().strip()
