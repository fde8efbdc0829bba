import onnx
import onnxruntime
import pytest
import torch

from tuwen.exporting.graph import UnitLength, save, text_graph

WORDS, CONTEXT, DIM = 40, 9, 8


class Tower(torch.nn.Module):
    """One layer as transformers have it, and a choice of what is taken from it."""

    def __init__(self, pool, positions=lambda table, length: table[:length]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(WORDS, DIM)
        self.table = torch.nn.Parameter(torch.randn(CONTEXT, DIM))
        self.attention = torch.nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.norm = torch.nn.LayerNorm(DIM)
        self.wide = torch.nn.Linear(DIM, 4 * DIM)
        self.narrow = torch.nn.Linear(4 * DIM, DIM)
        self.pool, self.positions = pool, positions

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.positions(self.table, ids.shape[1])
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.narrow(torch.nn.functional.gelu(self.wide(self.norm(x))))
        return self.pool(x, ids)


class Mlp(Tower):
    """No attention: what is added for each position is the same for every text, and must not be picked by row."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.positions(self.table, ids.shape[1])
        return self.pool(self.narrow(torch.relu(self.wide(x))), ids)


def first(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return x[:, 0]


def at_the_end(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return x[torch.arange(len(x)), ids.argmax(dim=1)]


def mean(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=1)


def of_one(table: torch.Tensor, length: int) -> torch.Tensor:
    return table[None, :length]


def exported(tower: Tower, path) -> onnx.ModelProto:
    """Export, check against torch on texts of several lengths, and give the graph."""
    save(text_graph(tower, torch.randint(1, WORDS, (2, 5)), mask=False), path)
    for n, length in ((1, 4), (3, CONTEXT), (4, 2)):
        ids = torch.randint(1, WORDS, (n, length))
        found = onnxruntime.InferenceSession(path).run(None, {"input_ids": ids.numpy()})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), UnitLength(tower.eval())(ids), atol=1e-6, rtol=0)
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def rank_of_products(model: onnx.ModelProto) -> dict[int, int]:
    """The ranks of what is multiplied by the wide map's and the narrow map's weights, by how wide that is."""
    values = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    return {
        weights[node.input[1]][0]: len(values[node.input[0]]) for node in products if 4 * DIM in weights[node.input[1]]
    }


@pytest.mark.parametrize("pool", [pytest.param(first, marks=pytest.mark.long), at_the_end])
def test_after_attention_only_the_pooled_token_is_computed(pool, tmp_path) -> None:
    model = exported(Tower(pool), tmp_path / "text.onnx")
    assert rank_of_products(model) == {DIM: 2, 4 * DIM: 2}
    onnx.checker.check_model(model, full_check=True)


def test_a_mean_needs_all_tokens(tmp_path) -> None:
    assert rank_of_products(exported(Tower(mean), tmp_path / "text.onnx")) == {DIM: 3, 4 * DIM: 3}


@pytest.mark.long
def test_what_is_needed_twice_is_computed_for_all(tmp_path) -> None:
    tower = Tower(lambda x, ids: first(x, ids) + mean(x, ids))
    assert rank_of_products(exported(tower, tmp_path / "text.onnx")) == {DIM: 3, 4 * DIM: 3}


@pytest.mark.long
@pytest.mark.parametrize("positions", [lambda table, length: table[:length], of_one], ids=["(l, d)", "(1, l, d)"])
def test_positions_are_not_rows(positions, tmp_path) -> None:
    assert rank_of_products(exported(Mlp(at_the_end, positions), tmp_path / "text.onnx")) == {DIM: 2, 4 * DIM: 2}
