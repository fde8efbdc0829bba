"""One training step: gradients of some batches, clipping, the optimiser, and the moving average of the weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tuwen.bundle.manifest import Scoring
from tuwen.errors import InvalidInput
from tuwen.models.towers import Towers
from tuwen.training.config import TrainConfig
from tuwen.training.distributed import rank, world
from tuwen.training.gradients import of_objective, of_pairs
from tuwen.training.model import Inputs, Pair, load_states, states
from tuwen.training.objective import Objective, objective_of
from tuwen.training.optimizer import Schedule, adamw, groups
from tuwen.training.pairs import Part


class Stepper:
    """Takes training steps.

    Attributes:
        groups: the trained parameters, by depth.
        objective: the user-defined objective, if there is one.
    """

    def __init__(self, config: TrainConfig, towers: Towers, device: torch.device) -> None:
        """Move the towers to their device, freeze the locked parts, and create the optimiser.

        Raises:
            InvalidInput: more blocks are to be locked than the towers have, or weights are to be sharded in a single
                process.
        """
        self._config, self._towers, self._device = config, towers, device
        self._whole = deepcopy((towers.vision, towers.text)) if config.run.fsdp else None
        self._pair = _pair(config, towers).to(device)
        self._pair.leave_out_unreached(_some_inputs(towers, device))
        self.objective = _objective(config, self._pair, device)
        self._gradients = (
            of_pairs(config, self._pair, device)
            if self.objective is None
            else of_objective(config, self.objective, device)
        )
        others = {} if self.objective is None else self.objective.own_parameters()
        self.groups = groups(
            self._pair, config.optimizer.layer_decay, others
        )  # after sharding, which replaces parameters
        self._optimizer = adamw(self.groups, config.optimizer, fused=not config.run.fsdp)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
        self._average = Average(self._pair, config.run.ema) if config.run.ema else None

    def step(self, batches: Sequence[Any], schedule: Schedule, number: int) -> dict[str, Tensor | float]:
        """Take one step.

        Args:
            batches: the batches whose gradients are accumulated.
            schedule: the learning-rate schedule.
            number: the number of the step, from 0.

        Returns:
            `loss` and `scale`, still on their device, and `lr`.
        """
        rate = schedule.apply(self._optimizer, number)
        share = self._scaler.scale(torch.tensor(1 / len(batches), device=self._device))
        losses = [self._gradients(batch, share, place == len(batches) - 1) for place, batch in enumerate(batches)]
        scale = _whole(self._pair.log_scale.detach()).exp().sum()
        self._scaler.unscale_(self._optimizer)
        if self._config.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained(), self._config.optimizer.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        self._pair.clamp()
        if self._average is not None:
            self._average.update(self._pair)
        return {"loss": torch.stack(losses).mean(), "lr": rate, "scale": scale}

    @contextmanager
    def in_use(self) -> Iterator[Towers]:
        """The towers as they would be exported now, with the averaged weights if there are any.

        Every process must enter the context. The modules are those in training, in eval mode: leave them unchanged.
        """
        averaged = nullcontext() if self._average is None else self._average.swapped(self._pair)
        with averaged:
            yield replace(self._towers, scoring=self._scoring()) if self._whole is None else self._gathered()

    def _gathered(self) -> Towers:
        """The towers with their full weights in the first process; the initial towers in the others."""
        assert self._whole is not None
        vision, text = self._whole
        scoring = self._scoring()
        weights, _ = states(self._pair, self._optimizer)
        if weights:
            vision.load_state_dict(_below("vision.", weights))
            text.load_state_dict(_below("text.", weights))
        return replace(self._towers, vision=vision, text=text, scoring=scoring)

    def finite(self) -> bool:
        """Whether every weight is finite."""
        norms = torch.stack([_local(value.detach()).norm() for value in self._trained()])
        return bool(torch.isfinite(norms).all())

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint; every process must call it."""
        weights, moments = states(self._pair, self._optimizer)
        average = None if self._average is None else self._average.state()
        own = None if self.objective is None else self.objective.own_state()
        parts = {"weights": weights, "moments": moments, "average": average, "objective": own}
        return parts | {"scaler": self._scaler.state_dict(), "trained": self._names()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint's state; settings such as weight decay come from the configuration.

        Raises:
            InvalidInput: other parameters were trained.
        """
        if state["trained"] != self._names():
            hint = "resume with the same model, locks and objective, or start a run from model.source=OUTPUT/last"
            raise InvalidInput(f"the checkpoint has other trained parameters: {hint}", where="model", hint=hint)
        settings = [_settings(entry) for entry in self._optimizer.param_groups]
        load_states(self._pair, self._optimizer, state["weights"], state["moments"])
        for entry, saved in zip(self._optimizer.param_groups, settings, strict=True):
            entry.update(saved)
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None and state["average"] is not None:
            self._average.load_state(state["average"])
        if self.objective is not None:
            self.objective.load_own_state(state["objective"])

    def _names(self) -> list[list[str]]:
        """The names of the trained parameters, group by group."""
        return [group.names for group in self.groups]

    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.groups for parameter in group.parameters]

    def _scoring(self) -> Scoring:
        scale = float(_whole(self._pair.log_scale.detach()).exp())
        if self._pair.bias is None:
            return Scoring(kind="softmax", scale=scale)
        return Scoring(kind="sigmoid", scale=scale, bias=float(_whole(self._pair.bias.detach())))


def _pair(config: TrainConfig, towers: Towers) -> Pair:
    pair = Pair(towers, config.loss.kind, config.loss.max_scale)
    pair.lock(vision=config.model.lock_image, text=config.model.lock_text)
    if config.model.checkpointing:
        pair.checkpoint_blocks()
    pair.train()
    return pair


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an optimiser group, without its state."""
    return {name: entry[name] for name in ("betas", "eps", "weight_decay", "share")}


def _objective(config: TrainConfig, pair: Pair, device: torch.device) -> Objective | None:
    if config.objective is None:
        return None
    return objective_of(config.objective, pair, config.run, Part(rank(), world())).to(device)


def _some_inputs(towers: Towers, device: torch.device) -> Inputs:
    tokens = towers.to_tokens(["a", "two dogs"])
    ids = torch.from_numpy(tokens.ids).to(device)
    mask = torch.arange(ids.shape[1]) < torch.from_numpy(tokens.lengths)[:, None]
    return Inputs(torch.zeros(2, 3, *towers.image_spec.size, device=device), ids, mask.long().to(device))


def _below(prefix: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _whole(tensor: Tensor) -> Tensor:
    """The full tensor, gathered from all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Average:
    """An exponential moving average of a module's weights.

    It starts with the current weights. After step t the decay is at most (1 + t) / (10 + t), so that the average of a
    short run is not dominated by the initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._mean = {name: value.detach().clone() for name, value in _floats(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Update the average with the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        current = dict(_floats(module))
        means = list(self._mean.values())
        torch._foreach_lerp_(means, [current[name].detach() for name in self._mean], 1 - decay)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Use the average as the module's weights within the block."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    def state(self) -> dict[str, object]:
        """The state for a checkpoint."""
        return {"steps": self._steps, "mean": self._mean}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Restore the state from a checkpoint of the same module."""
        steps, mean = state["steps"], state["mean"]
        assert isinstance(steps, int)
        assert isinstance(mean, dict)
        self._steps = steps
        for name, value in self._mean.items():
            value.copy_(mean[name])

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        for name, value in _floats(module):
            kept = value.detach().clone()
            value.copy_(self._mean[name])
            self._mean[name].copy_(kept)


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of the state dictionary; other buffers, such as masks, are not weights."""
    return ((name, value) for name, value in module.state_dict().items() if value.is_floating_point())
