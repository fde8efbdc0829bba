from httpx2 import Client

from tuwen.runtime.encoder import Encoder

from .serving import Served


def test_the_index(served: Served) -> None:
    answer = served.client.get("/v1/index").json()
    info = served.index.info()
    assert answer["rows"] == info.rows == sum(folder["rows"] for folder in answer["folders"])
    assert answer["model"] == info.model
    assert answer["write"] is True
    assert answer["types"] == {"image": info.rows}
    assert answer["width"] == [128, 128]
    assert answer["modified"][0] <= answer["modified"][1]


def test_the_model(client: Client, encoder: Encoder) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["dim"], model["fingerprint"]) == (encoder.name, encoder.dim, encoder.fingerprint)
    assert "zh" in model["languages"]


def test_health(client: Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
