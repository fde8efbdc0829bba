"""What the page needs beyond searching: order, facets over time, downloads."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

from httpx2 import Client

from tuwen.runtime.encoder import Encoder

from .serving import Served, serving


def test_rows_in_any_order(client: Client) -> None:
    def values(sort: str, field: str) -> list[object]:
        rows = client.get("/v1/images", params={"sort": sort, "k": 1000}).json()["rows"]
        return [row["payload"][field] for row in rows]

    paths = values("path", "path")
    assert len(paths) > 50
    assert paths == sorted(paths)
    assert values("-path", "path") == paths[::-1]
    for field in ("bytes", "name", "modified"):
        assert values(field, field) == sorted(values("path", field))
        assert values(f"-{field}", field) == sorted(values("path", field), reverse=True)
    assert set(values("taken", "path")) == set(paths)
    assert client.get("/v1/images", params={"sort": "colour"}).status_code == 422


def test_hits_in_the_order_of_a_field_and_facets(client: Client) -> None:
    asked = {"text": "a cat", "k": 20}
    best, by_size = (client.post("/v1/search", json=asked | more).json()["hits"] for more in ({}, {"sort": "-bytes"}))
    assert [hit["id"] for hit in by_size] != [hit["id"] for hit in best]
    assert by_size == sorted(best, key=lambda hit: -hit["payload"]["bytes"])
    assert client.post("/v1/search", json=asked | {"sort": "colour"}).status_code == 422
    folders = client.get("/v1/index").json()["folders"]
    most_first = sorted(folders, key=lambda folder: (-folder["rows"], folder["name"]))
    assert client.get("/v1/facets", params={"by": "folder"}).json() == {"by": "folder", "facets": most_first}
    (year,) = client.get("/v1/facets", params={"by": "year", "where": "width > 1"}).json()["facets"]
    assert year["rows"] == client.get("/v1/images").json()["total"]
    assert client.get("/v1/facets", params={"by": "colour"}).status_code == 422


def test_pages_of_an_order_are_one_list(client: Client) -> None:
    asked = {"sort": "-bytes", "where": "width > 1"}
    whole = client.get("/v1/images", params={**asked, "k": 40}).json()["rows"]
    parts = [client.get("/v1/images", params={**asked, "k": 20, "offset": at}).json()["rows"] for at in (0, 20)]
    assert parts[0] + parts[1] == whole


def test_images_over_time(encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    days = [datetime(2019, 1, 31, 12, tzinfo=UTC), datetime(2019, 3, 1, tzinfo=UTC), datetime(2020, 2, 29, tzinfo=UTC)]
    for day, picture in zip(days, sorted(photos.rglob("*.webp")), strict=False):
        copy = tmp_path / "photos" / picture.name
        copy.write_bytes(picture.read_bytes())
        os.utime(copy, (day.timestamp(), day.timestamp()))
    with serving(encoder, photos, tmp_path, allow_upload=True) as running:
        dates = running.client.get("/v1/index").json()["dates"]
        assert dates["field"] == "taken"
        found = {one["first"]: one["rows"] for one in dates["periods"]}
        assert {first: rows for first, rows in found.items() if rows} == {
            "2019-01-01": 1,
            "2019-03-01": 1,
            "2020-02-01": 1,
        }
        assert len(found) == 14
        assert dates["periods"][1]["last"] == "2019-02-28"
        (old,) = (row for row in running.index.list() if row.payload["modified"] == days[0].timestamp())
        where = 'modified >= "2019-01-01" and modified <= "2019-01-31"'
        assert [row["id"] for row in running.client.get("/v1/images", params={"where": where}).json()["rows"]] == [
            old.id
        ]
        running.client.delete(f"/v1/images/{old.id}")
        assert running.client.get("/v1/index").json()["dates"]["periods"][0]["first"] == "2019-03-01"


def test_a_download_of_several(served: Served) -> None:
    rows = list(served.index.list())[:5]
    gone = served.root / str(rows[4].payload["path"])
    content = gone.read_bytes()
    gone.unlink()
    try:
        answer = served.client.post("/v1/download", json={"ids": [*(row.id for row in rows), "nobody"]})
    finally:
        gone.write_bytes(content)
    assert answer.headers["content-type"] == "application/zip"
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = [str(row.payload["path"]) for row in rows]
        assert archive.namelist() == [*names[:4], "missing.txt"]
        assert archive.read("missing.txt").decode().split() == [names[4], "nobody"]
        assert all(archive.read(name) == (served.root / name).read_bytes() for name in names[:4])
    assert served.client.post("/v1/download", json={"ids": ["nobody"]}).status_code == 404
    assert served.client.post("/v1/download", json={"ids": []}).status_code == 422
