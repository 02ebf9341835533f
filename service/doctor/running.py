"""What can be wrong with a server that runs, as its REST API tells it. Knows no database."""

import re
from collections.abc import Iterator

from service.client import Client, ClientError, ServerRefused
from service.doctor.finding import Finding, State

LAG = re.compile(r'^codewell_view_lag_seconds\{collection="([^"]*)"\} (\S+)$', re.MULTILINE)
FAILED = re.compile(r'^codewell_jobs\{kind="(\w+)",state="failed"\} (\S+)$', re.MULTILINE)
STALE_SECONDS = 5
"""Views are behind for a moment after every write of another process."""


def answers(client: Client) -> Iterator[Finding]:
    """Whether it is ready, and what its metrics say."""
    try:
        client.ready()
    except ServerRefused as refused:
        yield Finding("server", State.FAIL, f"{client.url} is not ready: {refused}", "its log says more")
        return
    except ClientError as error:
        yield Finding("server", State.FAIL, str(error), "start it, or name another by --url")
        return
    yield Finding("server", State.OK, f"{client.url} is ready")
    try:
        told = client.metrics()
    except ServerRefused as refused:
        advice = "set CODEWELL_API_KEY to a key of the scope read for all collections"
        yield Finding("server", State.WARN, f"its metrics cannot be read: {refused}", advice)
        return
    stale = [(name, float(seconds)) for name, seconds in LAG.findall(told) if float(seconds) > STALE_SECONDS]
    for name, seconds in stale:
        advice = "its log says why it cannot follow; `codewell verify` looks into the database"
        yield Finding("server", State.WARN, f"the views of {name} have been behind for {seconds:.0f} s", advice)
    if not stale:
        yield Finding("server", State.OK, "its views follow the log")
    failed = sum(int(float(number)) for _, number in FAILED.findall(told))
    if failed:
        yield Finding("server", State.WARN, f"{failed} jobs failed", "`codewell status` says why")
