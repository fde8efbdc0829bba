"""Commands on an index in a cluster: what they fill, measure and copy there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Type
from cli.running import run
from local_cluster import LOCAL_MODE_SAYS, local_cluster
from samples_of import jpeg, write_tar
from tuwen.index.location import Cluster

pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with local_cluster(monkeypatch) as place:
        yield place


def shards_done() -> dict[Path, int]:
    """When each shard that the cache has noted was embedded."""
    return {path: path.stat().st_mtime_ns for path in Path("cache").rglob("done/*.json")}


def test_embedded_measured_searched_and_brought_back(desk: Type, cluster: Cluster) -> None:
    to = ("-o", cluster, "--format", "index", "--model", "model")
    embed = ("embed", "photos", *to, "--shard-size", "7", "--json")
    Path("photos/red/red-0.txt").write_text("a photo of red")
    report = json.loads(desk(*embed))
    assert (report["out"], report["images"], report["texts"], report["shards"]) == (str(cluster), 15, 1, 3)
    written = shards_done()
    assert len(written) == 3
    assert json.loads(desk(*embed)) == {**report, "seconds": pytest.approx(0, abs=60)}
    assert shards_done() == written, "it is through: no shard is embedded again"
    ended = run("calibrate", "--index", cluster, "--random", 8, "--json")
    assert "images and of texts" in ended.stderr
    shown = json.loads(ended.stdout)
    assert shown["thresholds"]["text"]["rows"] == 16
    info = json.loads(desk("index", "info", "--index", cluster, "--json"))
    assert info["thresholds"] == {kind: it["threshold"] for kind, it in shown["thresholds"].items()}
    assert "bytes" not in desk("index", "info", "--index", cluster), "which a cluster does not tell"
    none = desk("search", "--image", "photos/red/red-0.jpg", "--index", cluster, "--min-score", "0.99999", "--json")
    assert [hit["payload"]["name"] for hit in json.loads(none)["hits"]] == ["red-0.jpg"]
    query = ("search", "a photo of red", "--index", cluster, "-k", 16, "--json")
    every, found = (json.loads(desk(*query, *more))["hits"] for more in ((), ("--min-score", "auto")))
    above = [hit for hit in every if hit["score"] >= info["thresholds"]["text"]]
    assert [hit["id"] for hit in found] == [hit["id"] for hit in above]
    assert 0 < len(found) < len(every) == 16
    desk("embed", "photos", "-o", "here.tuwen", "--format", "index", "--model", "model")
    assert json.loads(desk("index", "copy", cluster, "here.tuwen", "--json"))["unchanged"] == 16


def test_a_collection_that_is_made_again_is_filled_again(desk: Type, cluster: Cluster) -> None:
    from tuwen.index.stores import qdrant_collection as cluster_link

    embed = ("embed", "photos", "-o", cluster, "--format", "index", "--model", "model", "--json")
    desk(*embed)
    cluster_link.connect(cluster).delete_collection(cluster.name)
    desk(*embed)
    assert json.loads(desk("index", "info", "--index", cluster, "--json"))["rows"] == 15


def test_jobs_that_follow_each_other_keep_their_rows_apart(desk: Type, cluster: Cluster) -> None:
    desk("index", "build", "photos", "--index", cluster, "--model", "model")
    desk("embed", "photos/red", "-o", cluster, "--format", "index", "--model", "model")
    for name in ("one", "two"):
        write_tar(Path(f"{name}.tar"), {"000.jpg": jpeg(len(name)), "000.txt": b"red"})
        desk("embed", f"{name}.tar", "-o", cluster, "--format", "index", "--model", "model")
    keys = desk("index", "list", "--index", cluster).splitlines()
    tars = [f"{Path(f'{name}.tar').absolute()}/000.jpg" for name in ("one", "two")]
    assert sorted(keys)[:4] == sorted([*tars, *(f"{key}#0" for key in tars)])
    assert len(keys) == 15 + 4


def test_files_are_for_folders(desk: Type, cluster: Cluster) -> None:
    assert desk("index", "build", "photos", "--index", cluster, "--model", "model")
    for words, said in (
        (("photos",), "--format index"),
        (("photos/red/red-0.jpg",), ".npy"),
    ):
        ended = run("embed", *words, "-o", cluster, "--model", "model")
        assert (ended.exit_code, said in ended.stderr) == (2, True)


def test_the_pipeline_of_another_tool(desk: Type, cluster: Cluster) -> None:
    Path("clip.yaml").write_text(
        f"Global: {{mode: image_index_build, model: model, infer_imgs: photos}}\n"
        f"IndexProcess: {{image_index_dir: '{cluster}', index_method: HNSW32}}\n"
    )
    assert desk("run", "-c", "clip.yaml").startswith(f"{cluster}: 15 rows")
    asked = ("-o", "Global.mode=image-to-image", "-o", "Global.infer_imgs=photos/red/red-1.jpg")
    assert json.loads(desk("run", "-c", "clip.yaml", *asked)) == ["photos/red/red-1.jpg"]
    ended = run("run", "-c", "clip.yaml", "-o", "IndexProcess.image_index_dir=qdrant://host")
    assert ended.exit_code == 2
    assert "IndexProcess.image_index_dir: qdrant://host" in ended.stderr
