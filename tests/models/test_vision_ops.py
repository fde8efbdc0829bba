import subprocess
import sys

SCRIPT = """
from tuwen.models.torchvision import make_torchvision_importable
make_torchvision_importable()
make_torchvision_importable()
import torch, torchvision
from torchvision.transforms import functional as transforms
from PIL import Image
print(tuple(transforms.to_tensor(Image.new("RGB", (3, 2))).shape))
try:
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    print("loaded" if torchvision.extension._has_ops() else "wrong")
except (NotImplementedError, RuntimeError):
    print("declared")
"""


def test_torchvision_can_be_imported_beside_this_torch() -> None:
    """In a process of its own: in this one it may be imported already."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == "(3, 2, 3)"
    assert run.stdout.splitlines()[1] in ("loaded", "declared")
