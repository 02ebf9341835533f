"""What collections and aliases are called: one name stands for one thing, whoever asks at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.catalog import Catalog
from service.errors import CodewellError, Conflict, NotFound
from tests.conftest import Server, start_server
from tests.postgres import Postgres
from tests.test_collection import catalog_of

ROUNDS = 30


def together(*calls: Callable[[], object]) -> list[CodewellError | None]:
    """Runs them at the same time; what each was refused with."""

    def one(call: Callable[[], object]) -> CodewellError | None:
        try:
            call()
        except CodewellError as error:
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_a_name_is_a_collection_or_an_alias(database_url: str) -> None:
    database, catalog = catalog_of(database_url)
    catalog.create("target", dimension=2)
    for n in range(ROUNDS):
        name = f"n{n}"
        refused = together(
            lambda name=name: catalog.create(name, dimension=2),  # type: ignore[misc]
            lambda name=name: catalog.point_alias(name, "target"),  # type: ignore[misc]
        )
        assert sum(error is None for error in refused) == 1
        assert all(error is None or isinstance(error, Conflict) for error in refused)
    names = [described.name for described in catalog.list()]
    assert not set(names) & set(catalog.aliases())
    assert len(names) + len(catalog.aliases()) == ROUNDS + 1
    database.close()


def test_aliases_move_and_go_while_others_do_the_same(database_url: str) -> None:
    database, catalog = catalog_of(database_url)
    allowed = (type(None), NotFound)
    for n in range(ROUNDS):
        catalog.create(f"c{n}", dimension=2)
        catalog.create(f"d{n}", dimension=2)
        for error in together(*_moves(catalog, n)):
            assert isinstance(error, allowed), error
        assert set(catalog.aliases().values()) <= {described.name for described in catalog.list()}
    database.close()


def _moves(catalog: Catalog, n: int) -> list[Callable[[], object]]:
    return [
        lambda: catalog.point_alias("alias", f"c{n}"),
        lambda: catalog.point_alias("alias", f"d{n}"),
        lambda: catalog.remove_alias("alias"),
        lambda: catalog.delete(f"c{n}"),
    ]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_nul_in_a_path_is_no_name(kind: str, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> None:
    settings = {} if kind == "sqlite" else {"DATABASE_URL": postgres.new_database()}
    server: Server = start_server(tmp_path_factory.mktemp("nul"), **settings)
    server.post("/collections", {"name": "readonly-locked", "dimension": 2}, 201)
    for method, path in (
        ("GET", "/jobs/%00"),
        ("GET", "/jobs?collection=%00"),
        ("GET", "/collections/%00"),
        ("DELETE", "/aliases/a%00"),
        ("GET", "/collections/readonly-locked/items/%00"),
        ("DELETE", "/collections/readonly-locked/items/a%00b"),
    ):
        assert server.client.request(method, path).status_code == 404, path
    # Words that a name brings into a database's message do not decide what the answer is.
    assert server.post("/collections", {"name": "readonly-locked", "dimension": 2}, 409)["title"] == "Collection exists"
    assert server.stop() == 0
