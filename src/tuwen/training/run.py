"""`tuwen.train`: from a configuration to a checkpoint, a report and a verified bundle."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuwen.bundle.bundle import Bundle
from tuwen.errors import InvalidInput
from tuwen.exporting.export import export_towers
from tuwen.models.sources import load_source
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of, read_config
from tuwen.training.distributed import is_first
from tuwen.training.loop import CONFIG, TrainResult, fit
from tuwen.training.record import read_log, write_report

BUNDLE = "bundle"

log = logging.getLogger(__name__)


def train(
    config: TrainConfig | Mapping[str, Any] | Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: Path | str | None = None,
    on_line: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a model on image-text pairs, and export the best checkpoint as a verified bundle.

    The folder `run.output` gets the checkpoints, `log.jsonl`, TensorBoard's files, `report.md` and the bundle. In
    processes that torchrun started, all train together; the first one exports and writes the report.

    Example:
        >>> import tuwen
        >>> result = tuwen.train(  # doctest: +SKIP
        ...     {"model": {"source": "openclip:ViT-B-32/openai"}, "data": {"train": "pairs/"}, "run": {"epochs": 5}},
        ...     ["optimizer.lr=1e-5", "run.output=finetuned"],
        ... )
        >>> index = tuwen.Index.build("photos/", "photos.tuwen", model=result.bundle)  # doctest: +SKIP

    Args:
        config: a YAML file, or what it contains as a mapping or a `TrainConfig`; see the configuration's reference.
        overrides: `key.path=value` with values in YAML, which override `config`, such as `optimizer.lr=4e-4`.
        resume: the output folder of a run to resume from its last checkpoint, with the configuration in it; instead
            of `config`.
        on_line: called with each line about the progress; by default lines are logged.

    Returns:
        The checkpoint, the bundle, and the metrics.

    Raises:
        InvalidInput: the configuration is invalid, or something that it names cannot be used.
        RuntimeUnavailable: the device is not available on this machine.
        Diverged: the loss or a weight is no longer finite.
        NotVerified: the bundle does not reproduce its checkpoint.
    """
    chosen = configuration(config, overrides, resume)
    result = fit(chosen, on_line or log.info, resume=resume is not None)
    if not is_first():
        return result
    bundle = _exported(chosen, result) if chosen.export.precisions else None
    return replace(result, bundle=None if bundle is None else bundle.folder, report=_report(chosen, result, bundle))


def configuration(
    config: TrainConfig | Mapping[str, Any] | Path | str | None,
    overrides: Sequence[str] = (),
    resume: Path | str | None = None,
) -> TrainConfig:
    """The configuration that `train` uses for these arguments.

    Raises:
        InvalidInput: it is invalid, both or neither of `config` and `resume` are given, or `resume` is not a run's
            folder.
    """
    if (config is None) == (resume is None):
        hint = "give a configuration (-c FILE) or the output folder of a run to resume (--resume FOLDER)"
        raise InvalidInput(f"nothing to train: {hint}, and not both", hint=hint)
    if resume is not None:
        file = Path(resume) / CONFIG
        if not file.is_file():
            hint = "begin a run with a configuration (-c FILE)"
            raise InvalidInput(
                f"{resume} is not the folder of a run: {CONFIG} is missing; {hint}", value=resume, hint=hint
            )
        return read_config(file, [*overrides, f"run.output={json.dumps(str(resume))}"])
    if isinstance(config, TrainConfig):
        return config_of(config.model_dump(mode="json"), overrides) if overrides else config
    return config_of(config, overrides) if isinstance(config, Mapping) else read_config(Path(str(config)), overrides)


def _exported(config: TrainConfig, result: TrainResult) -> Bundle:
    """The best checkpoint as a verified bundle."""
    return export_towers(load_source(str(result.checkpoint)), result.output / BUNDLE, config.export.precisions)


def _report(config: TrainConfig, result: TrainResult, bundle: Bundle | None) -> Path:
    facts = {
        "model": config.model.source,
        "steps": f"{result.steps:,}",
        "seconds": f"{result.seconds:,.0f}",
        "best step": f"{result.best_step:,}",
        "pairs skipped": len(result.skipped),
        **({} if bundle is None else {"bundle": f"{BUNDLE}, fingerprint {bundle.manifest.fingerprint()}"}),
    }
    name = config.export.name or result.output.resolve().name
    return write_report(result.output, name, read_log(result.output), facts)
