"""What a TorchScript archive is made from."""

import torch


def nested(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A module with this state: what a TorchScript archive is made from."""
    root = torch.nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(last, tensor)
    return root
