"""The application as a whole: nothing happens on import, and the API's page needs no other host."""

import re
import subprocess
import sys

from tests.conftest import Server


def test_importing_opens_nothing_and_the_client_loads_nothing_heavy() -> None:
    program = (
        "import sys, threading, os; before = set(os.listdir('.'));"
        "import service.cli, service.client, service.settings;"
        "heavy = {'torch', 'faiss', 'sqlalchemy', 'fastapi', 'httpx', 'sentence_transformers'} & set(sys.modules);"
        "import service.api.app;"
        "assert threading.active_count() == 1, threading.enumerate();"
        "assert set(os.listdir('.')) == before;"
        "assert 'sentence_transformers' not in sys.modules;"
        "print(sorted(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_api_page_and_its_parts_come_from_the_server(server: Server) -> None:
    page = server.client.get("/docs").text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {part.rsplit("/", 1)[1] for part in parts} >= {"swagger-ui-bundle.js", "swagger-ui.css"}
    for part in parts:
        assert part.startswith("/")
        assert len(server.client.get(part).content) > 500, part


def test_the_description_of_the_api_names_both_forms_of_a_vector(server: Server) -> None:
    schemas = server.get("/openapi.json")["components"]["schemas"]
    forms = schemas["ItemIn"]["properties"]["vector"]["anyOf"]
    assert [form["type"] for form in forms] == ["array", "string", "null"]
    paths = server.get("/openapi.json")["paths"]
    assert set(paths["/ingest"]["post"]["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
