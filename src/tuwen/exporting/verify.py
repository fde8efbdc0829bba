"""Verify that a bundle computes what its checkpoint does, at any time after export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Check, Report
from tuwen.errors import InvalidInput
from tuwen.exporting.canonical import verify_canonical
from tuwen.exporting.compare import baseline, compare, compare_devices, reference
from tuwen.exporting.report import write_report
from tuwen.exporting.runs import parse_devices
from tuwen.exporting.samples import Samples, built_in
from tuwen.exporting.sources import checkpoint_of, named_here
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers, with_dims
from tuwen.runtime.loading import find_bundle
from tuwen.settings import Settings

TORCH = "torch"
"""the value of `against` that stands for the checkpoint which the bundle was made from"""


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of `verify`.

    Attributes:
        bundle: the bundle.
        compared_with: what it was compared with, in words.
        reports: one for each precision or device.
    """

    bundle: Bundle
    compared_with: str
    reports: Sequence[Report]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(report.passed for report in self.reports)

    @property
    def checks(self) -> list[Check]:
        """Every check once: the checks of pixels and tokens are in each report."""
        return list(dict.fromkeys(check for report in self.reports for check in report.checks))

    def write(self, file: str | Path) -> None:
        """Write a report in Markdown, with a plot beside it.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        write_report(Path(file), self.bundle.manifest, self.compared_with, self.reports)


def verify(
    bundle: str | Path | Bundle,
    *,
    against: str | Towers | None = None,
    weights: str | Path | None = None,
    arch: str | None = None,
    devices: str | None = None,
    samples: Samples | None = None,
) -> Verification:
    """Verify a bundle on this machine.

    By default, each precision on each runtime is compared with the canonical outputs in the bundle, and with the
    figures that were recorded at export; no checkpoint is needed. On samples of your own, and if the bundle has no
    canonical outputs, it is also compared with its best files on ONNX Runtime. Nothing is downloaded.

    Example:
        >>> from tuwen.exporting.verify import verify
        >>> verify("demo", devices="cpu:onnxruntime,cpu:openvino@fp32").passed
        True

    Args:
        bundle: a bundle, its folder, or the name of a model on this machine.
        against: compare with this checkpoint in PyTorch instead, named as for `tuwen.export`, or loaded; `torch` is
            the one that the bundle was made from.
        weights: the checkpoint, or the file of its weights.
        arch: its architecture, if the file does not tell it.
        devices: run on these devices alone, and compare the others with the first: DEVICE[:RUNTIME][@PRECISION],
            separated by commas, e.g. `cpu,cuda:1,cpu:openvino@int8`.
        samples: images and texts of your own (see `tuwen.exporting.samples`); by default the built-in ones.

    Raises:
        BundleNotFound: there is no such bundle.
        BundleInvalid: files of the bundle disagree with each other.
        InvalidInput: the checkpoint is not on this machine, or arguments exclude each other.
        RuntimeUnavailable: a device is not available on this machine.
    """
    if against is not None and devices is not None:
        raise InvalidInput("against compares with PyTorch, devices with each other: give one of the two")
    settings = Settings()
    if not isinstance(bundle, Bundle):
        bundle = find_bundle(str(bundle), settings.models, settings.cache)
    if devices is not None:
        return _on_devices(bundle, devices, samples)
    if against is None:
        return _alone(bundle, samples)
    if isinstance(against, Towers):
        towers, name = against, against.source
    else:
        file = None if weights is None else Path(weights)
        own = checkpoint_of(bundle.manifest, file, settings) if against == TORCH else None
        found = own or named_here(against, file, settings)
        towers, name = load_source(found.source, found.weights, arch=arch), found.named or found.source
    if bundle.manifest.full_dim is not None and towers.full_dim is None:
        towers = with_dims(towers, bundle.manifest.dim)
    known = reference(towers, samples or built_in())
    return Verification(bundle, f"{name} in PyTorch", list(compare(bundle, known).values()))


def _alone(bundle: Bundle, samples: Samples | None) -> Verification:
    reports = list(verify_canonical(bundle).values())
    compared_with = ["its canonical outputs"] if reports else []
    if samples is not None or not reports:
        reports += compare(bundle, baseline(bundle, samples or built_in())).values()
        compared_with.append(f"its own {bundle.precisions[0]} files on ONNX Runtime")
    return Verification(bundle, " and ".join(compared_with), reports)


def _on_devices(bundle: Bundle, devices: str, samples: Samples | None) -> Verification:
    named = parse_devices(devices)
    canonical = verify_canonical(bundle, named)
    others = compare_devices(bundle, named, samples or built_in())
    compared_with = ("its canonical outputs and " if canonical else "") + f"itself on {named[0].name}"
    return Verification(bundle, compared_with, [*canonical.values(), *others])
