"""One state in every format that is read, and one that would run code in each of them."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import is_torchscript, read_tensors

from .archives import nested

STATE = {
    "visual.proj": torch.arange(6.0).reshape(2, 3),
    "text.small": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "text.wide": torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16),
    "logit_scale": torch.tensor(4.6),
    "step": torch.tensor([1, 2]),
}


class Malice:
    """A pickle of this makes a folder when it is loaded."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("pwned",)


def as_arrays(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """As Paddle writes a state dict: bfloat16 as its 16 bits, and a table of names beside the arrays."""
    arrays = {
        name: tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for name, tensor in state.items()
    }
    return arrays | {"StructuredToParameterName@@": {name: f"{name}_0" for name in state}}


def write(path, kind: str, state) -> None:
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "torch":
        torch.save(state, path)
    elif kind == "old torch":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "torchscript":
        torch.jit.script(nested(state)).save(path)
    else:
        path.write_bytes(pickle.dumps(as_arrays(state), protocol=int(kind[-1])))


KINDS = ("safetensors", "torch", "old torch", "torchscript", *(f"paddle {protocol}" for protocol in (2, 3, 4, 5)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_tensors(tmp_path, kind) -> None:
    path = tmp_path / "weights.any"  # told by content alone
    write(path, kind, STATE)
    found = read_tensors(path)
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    assert is_torchscript(path) == (kind == "torchscript")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_tensors_that_share_memory_and_views(tmp_path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {"a": base, "b": base.T, "c": base[1:3, ::2]}
    write(tmp_path / "model.pt", "torchscript", state)
    found = read_tensors(tmp_path / "model.pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("wrap", ["state_dict", "model", "module"])
def test_what_trainers_put_around(tmp_path, wrap) -> None:
    inside = {f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save({"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, wrap: inside}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt").keys() == STATE.keys()


def pwned_torch(path) -> None:
    torch.save({"state_dict": Malice()}, path)


def pwned_old_torch(path) -> None:
    torch.save({"state_dict": Malice()}, path, _use_new_zipfile_serialization=False)


def pwned_torchscript(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Malice(), protocol=2))
        archive.writestr("m/code/__torch__.py", "")


def pwned_pickle(path) -> None:
    path.write_bytes(pickle.dumps({"visual.proj": np.ones(2), "b": Malice()}, protocol=4))


def pwned_array(path) -> None:
    path.write_bytes(pickle.dumps({"a": np.array([Malice()], dtype=object)}, protocol=4))


def pwned_getattr(path) -> None:
    """Names below an admitted module are not admitted with it."""
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.")


PWNED = (pwned_torch, pwned_old_torch, pwned_torchscript, pwned_pickle, pwned_array, pwned_getattr)


@pytest.mark.parametrize("write", PWNED, ids=lambda write: write.__name__)
def test_a_malicious_file_is_refused(tmp_path, monkeypatch, write) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights.bin")
    with pytest.raises(InvalidInput) as raised:
        read_tensors(tmp_path / "weights.bin")
    assert (raised.value.where, bool(raised.value.value)) == (tmp_path / "weights.bin", True)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short(tmp_path, kind) -> None:
    path = tmp_path / "weights.bin"
    write(path, kind, STATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InvalidInput) as raised:
        read_tensors(path)
    assert (raised.value.where, raised.value.value) == (path, None)


@pytest.mark.parametrize("content", [b"", b"hello, this is a text", b"\x80\x04.", pickle.dumps([1, 2]), b"\x00" * 99])
def test_what_is_no_checkpoint(tmp_path, content) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(InvalidInput) as raised:
        read_tensors(tmp_path / "weights.bin")
    assert raised.value.where == tmp_path / "weights.bin"


def test_a_file_without_tensors_and_a_missing_file(tmp_path) -> None:
    torch.save({"epoch": 1}, tmp_path / "weights.bin")
    for name in ("weights.bin", "absent.bin"):
        with pytest.raises(InvalidInput) as raised:
            read_tensors(tmp_path / name)
        assert raised.value.where == tmp_path / name
