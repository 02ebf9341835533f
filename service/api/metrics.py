"""GET /metrics, for Prometheus. Knows no metric."""

from fastapi import APIRouter, Response

from service.api.access import READ
from service.api.dependencies import CodewellDep
from service.api.signals import METRICS
from service.scrape import MEDIA_TYPE

router = APIRouter(tags=["health"])


class PrometheusText(Response):
    """Prometheus's text format."""

    media_type = MEDIA_TYPE


@router.get(METRICS, response_class=PrometheusText, dependencies=[READ])
def metrics(codewell: CodewellDep) -> PrometheusText:
    """What the server counts and how it stands, in Prometheus's text format; of all workers together.

    Where keys are needed it takes one of the scope read for all collections.
    """
    return PrometheusText(codewell.scrape.text())
