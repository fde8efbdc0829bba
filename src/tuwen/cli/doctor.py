"""`tuwen doctor`: what this machine can run, and what to install to make better use of it."""

from dataclasses import asdict
from platform import python_version

import click

from tuwen import __version__
from tuwen.cli import options
from tuwen.cli.bundles import show_timings, timings_document
from tuwen.cli.command import Command
from tuwen.cli.console import emit, table
from tuwen.runtime.loading import default_model
from tuwen.runtime.machine import Engine, Machine, look
from tuwen.runtime.measured import all_kept
from tuwen.settings import Settings, read_settings


@click.command(cls=Command, examples=("tuwen doctor", "tuwen doctor --json"))
@options.as_json
def doctor(as_json: bool) -> None:
    """Show what this machine can run, and what to install.

    CPU features, accelerators, available and missing runtimes, and the pip command that would make better use of them;
    and for each model in use, how fast each runtime and precision was measured to be here, and which of them are used.
    """
    settings, machine = read_settings(), look()
    measured = all_kept(settings.cache)
    if as_json:
        emit(
            {
                "tuwen": __version__,
                "python": python_version(),
                **asdict(machine),
                "settings": _settings(settings),
                "measured": [{"model": it.model, "timings": timings_document(it.timings)} for it in measured],
            }
        )
        return
    table(("what", "here"), _rows(machine, settings))
    for kept in measured:
        click.echo(f"\n{kept.model}, measured on this machine")
        show_timings(kept.timings)
    if machine.conflict:
        click.echo(f"\nConflict: {machine.conflict}")
    click.echo(
        f"\n{machine.advice}"
        if machine.advice
        else "\nNothing to install: tuwen is already making full use of this machine."
    )


def _rows(machine: Machine, settings: Settings) -> list[tuple[str, object]]:
    return [
        ("tuwen", f"{__version__}, Python {python_version()}"),
        ("cpu", machine.cpu),
        ("cores", machine.cores),
        ("features", ", ".join(machine.features) or "none that are used"),
        ("accelerators", ", ".join(machine.accelerators) or "none"),
        *((engine.name, _engine(engine)) for engine in machine.engines),
        *_settings(settings).items(),
    ]


def _engine(engine: Engine) -> str:
    return f"{engine.version}: {', '.join(engine.devices)}" if engine.version else f"missing: {engine.missing}"


def _settings(settings: Settings) -> dict[str, str]:
    """Where models are, and the default model of a new index."""
    model = default_model(settings.default_model, settings.models)
    return {"models": str(settings.models), "cache": str(settings.cache), "default_model": model}
