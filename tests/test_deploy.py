"""What the compose file and the files beside it promise, as far as they can be read without an engine."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.serving import GRACE_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("service", "service-a", "service-b", "example")


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["init"], service["tmpfs"]) == (True, True, ["/tmp"])  # noqa: S108
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_longer_to_end_than_a_server_waits(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 2 * GRACE_SECONDS


def test_ports_are_published_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"service", "service-a", "service-b", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_what_is_handed_on_are_settings() -> None:
    for name in ("service", "service-a", "service-b"):
        for variable in SERVICES[name]["environment"]:
            assert variable.removeprefix("CODEWELL_").lower() in Settings.model_fields, variable


def test_the_two_wait_for_the_database_whose_password_is_a_file() -> None:
    for name in ("service-a", "service-b"):
        assert SERVICES[name]["depends_on"] == {"database": {"condition": "service_healthy"}}
        secret = SERVICES[name]["environment"]["CODEWELL_DATABASE_PASSWORD_FILE"]
        assert secret == SERVICES["database"]["environment"]["POSTGRES_PASSWORD_FILE"]
        assert [f"/run/secrets/{one}" for one in SERVICES[name]["secrets"]] == [secret]
    assert "password" not in SERVICES["service-a"]["environment"]["CODEWELL_DATABASE_URL"]


def test_prometheus_scrapes_the_service_with_the_key_that_it_is_given() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    prometheus = SERVICES["prometheus"]
    assert [f"/run/secrets/{one}" for one in prometheus["secrets"]] == [job["authorization"]["credentials_file"]]
    assert mounts("prometheus")["/etc/prometheus/prometheus.yml"] == DEPLOY / "prometheus.yml"
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]


def test_grafana_is_provisioned_with_the_dashboard_and_where_its_numbers_are() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts("grafana")[home] == DEPLOY / "grafana" / "codewell.json"
    assert str(Path(home).parent) == provider["options"]["path"]
    panels = json.loads((DEPLOY / "grafana" / "codewell.json").read_text())["panels"]
    uids = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert uids == {source["uid"]}


def mounts(service: str) -> dict[str, Path]:
    """Files of the repository by where the container has them; all are there."""
    parts = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    found = {part[1]: ROOT / part[0] for part in parts if part[0].startswith("./")}
    assert all(path.exists() for path in found.values())
    return found
