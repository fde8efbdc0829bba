"""Custom objectives: a loss with its own batches and parameters, in place of pairs and the built-in losses.

Named in the configuration as `objective`. Optimiser, schedule, averaged weights, checkpoints and the bundle remain.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from tuwen.errors import InvalidInput
from tuwen.models.trained import call
from tuwen.training.config import ObjectiveConfig, RunConfig
from tuwen.training.model import Pair
from tuwen.training.pairs import Part

_PAIR = "pair."


class Batches(Protocol):
    """The batches of a run. Each iteration is an epoch; after an interruption, the next iteration continues it.

    Attributes:
        skipped: samples that could not be read -> the reason.
    """

    skipped: dict[str, str]

    def __len__(self) -> int:
        """The number of batches in an epoch; the same in every process."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The remaining batches of the epoch."""
        ...

    def state(self) -> dict[str, Any]:
        """The position after the last batch that was returned, in types that `torch.load(weights_only=True)` reads."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the position at which `state` was taken."""
        ...


class Objective(nn.Module):
    """Base class of custom objectives. Its own parameters are trained at the full rate without decay, then discarded.

    Attributes:
        pair: the towers and their scale, which are exported.
        batches: the batches with which `forward` is called.
    """

    def __init__(self, pair: Pair, batches: Batches) -> None:
        super().__init__()
        self.pair, self.batches = pair, batches

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401  (its own kind of batch)
        """Compute the loss of a batch, a scalar; with several processes, of this process's batch.

        The objective must move the batch to the device of its parameters.
        """

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """The objective's own parameters by name, without those of the pair."""
        named = self.named_parameters()
        return {name: value for name, value in named if not name.startswith(_PAIR) and value.requires_grad}

    def own_state(self) -> dict[str, Tensor]:
        """The objective's own parameters and buffers, for a checkpoint."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(_PAIR)}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `own_state`.

        Raises:
            InvalidInput: this objective has other parameters or buffers.
        """
        whole = {name: value for name, value in self.state_dict().items() if name.startswith(_PAIR)}
        try:
            self.load_state_dict(whole | dict(state))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"the objective differs from that of the checkpoint: {reason}; resume with the same", where="objective"
            ) from error


def objective_of(config: ObjectiveConfig, pair: Pair, run: RunConfig, part: Part) -> Objective:
    """Call the function that the configuration names.

    Raises:
        InvalidInput: there is no such function, it does not accept these settings, or it returns something else.
    """
    made = call(config.source, pair, run, part, **config.settings)
    if not isinstance(made, Objective):
        raise InvalidInput(
            f"{config.source} returns {type(made).__name__}, not an instance of tuwen.training.objective.Objective",
            value=config.source,
            where="objective.source",
        )
    return made
