"""Runs converted models: which engine reads the files of which conversion."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Converted, model_files
from tuwen.bundle.manifest import Tower
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.mnn import MnnSession
from tuwen.runtime.ncnn import NcnnSession
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import Session
from tuwen.types import Port

RUNNABLE = ("openvino", "mnn", "ncnn")


def converted_encoder(bundle: Bundle, converted: Converted, folder: Path, threads: int) -> Encoder:
    """An encoder with the bundle's preprocessing and tokenizer, and the converted towers.

    Raises:
        RuntimeUnavailable: tuwen cannot run this conversion.
    """
    if converted.to not in RUNNABLE:
        program = "trtexec" if converted.to == "tensorrt" else "ais_bench"
        raise RuntimeUnavailable(
            f"{folder} was converted to {converted.to}, which tuwen cannot run: use {program}", value=converted.to
        )

    def load(tower: Tower) -> Session:
        return open_converted(converted, folder, tower, threads)

    return Encoder(bundle, load, precision=converted.precision, exact_decode=True)


def open_converted(converted: Converted, folder: Path, tower: Tower, threads: int) -> Session:
    """Load one tower.

    Raises:
        RuntimeUnavailable: this tower was not converted, or cannot be loaded.
        MissingExtra: its runtime is not installed.
    """
    if tower not in converted.inputs:
        raise RuntimeUnavailable(f"{folder} has no {tower} tower: convert the bundle again with --tower both")
    files = [folder / name for name in model_files(converted.to, tower)]
    if converted.to == "openvino":
        return OpenVinoSession(files[0], device="cpu", precision="fp32", threads=threads)
    ports = _ports(converted, tower)
    if converted.to == "mnn":
        return MnnSession(files[0], ports, converted.outputs[tower], precision=converted.precision, threads=threads)
    return NcnnSession(files[0], files[1], ports, precision=converted.precision, threads=threads)


def _ports(converted: Converted, tower: Tower) -> Sequence[Port]:
    kind = np.dtype(np.float32 if tower == "vision" else np.int32)
    return [Port(item.name, item.shape, kind) for item in converted.inputs[tower]]
