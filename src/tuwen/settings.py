"""Settings: read from the environment and a file by the public API and the command line, then passed down as values.

`TUWEN_<FIELD>` sets a field; so does a line of `~/.config/tuwen/settings.toml` (`TUWEN_SETTINGS` names another file).
"""

import os
import tomllib
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from tuwen.errors import InvalidInput

RECOMMENDED_MODEL = "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
"""the model to pull for photos: many languages, middle size"""


def _home(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given) / "tuwen"
    try:
        return Path.home() / fallback / "tuwen"
    except RuntimeError as error:  # neither HOME nor an entry in the password file, as in some containers
        hint = "set HOME, or XDG_DATA_HOME, XDG_CACHE_HOME and XDG_CONFIG_HOME"
        raise InvalidInput(f"this user has no home folder: {hint}", value=variable, hint=hint) from error


class Settings(BaseModel):
    """Values that apply to all commands unless an option overrides them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Path = Field(default_factory=partial(_home, "XDG_DATA_HOME", ".local/share"))
    """where pulled models are kept"""
    cache: Path = Field(default_factory=partial(_home, "XDG_CACHE_HOME", ".cache"))
    """where compiled models and digests are kept; may be deleted at any time"""
    offline: bool = False
    """forbid `pull` and `export` to contact the model hub; no other command ever does"""
    index: str | None = None
    """the index used by commands without `--index`: a folder, or `qdrant://host:6333/name`"""
    qdrant_key: SecretStr | None = None
    """API key of the Qdrant cluster"""
    qdrant_shards: int | None = Field(default=None, ge=1)
    """number of shards of a new index in a cluster; by default the cluster's own"""
    qdrant_replicas: int | None = Field(default=None, ge=1)
    """number of copies of each shard of a new index in a cluster; by default the cluster's own"""
    url: str | None = None
    """the service used by commands without `--url` and `--index`, e.g. `http://127.0.0.1:8000`"""
    key: str | None = None
    """API key of that service"""
    default_model: str | None = None
    """the model of a new index; by default the recommended one if it was pulled, otherwise the packaged `photo`"""
    runtime: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """what computes; `auto`: the faster one, as measured on this machine; until that is done, OpenVINO on CPUs and ONNX
    Runtime on accelerators"""
    device: str = "auto"
    """what it computes on, e.g. `cpu`, `cuda:1`, `openvino:GPU`; see `tuwen doctor`"""
    precision: Literal["auto", "fast", "fp32", "bf16", "fp16", "int8"] = "auto"
    """what it computes in; `auto`: the fastest that keeps the vectors exact, as measured on this machine; `fast`: the
    fastest that passed verification, int8 included"""
    threads: int | None = Field(default=None, ge=1)
    """threads for computing; by default all cores that the process may use"""
    max_pixels: int = Field(default=2**28, ge=1)
    """images that would need more pixels in memory are rejected; JPEGs are decoded at reduced scale"""
    lock_timeout: float = Field(default=10.0, ge=0)
    """seconds to wait for another process that has the index open"""
    quantize_above: int = Field(default=50_000, ge=0)
    """number of rows above which an index is searched with int8 vectors and rescored with the exact ones"""
    serve_key: str | None = None
    """key that grants read and write access to `tuwen serve`, unless `--key` is given"""
    serve_read_key: str | None = None
    """key that grants read access to `tuwen serve`, unless `--read-key` is given"""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401
        """Values given in code override the environment, and the environment overrides the file."""
        variables = {name: os.environ.get(f"TUWEN_{name.upper()}") for name in type(self).model_fields}
        super().__init__(**(_in_file() | {name: text for name, text in variables.items() if text is not None} | given))


def _in_file() -> dict[str, Any]:
    file = Path(os.environ.get("TUWEN_SETTINGS") or _home("XDG_CONFIG_HOME", ".config") / "settings.toml")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the settings in {file} cannot be read: {error}", where=file) from error


def read_settings() -> Settings:
    """Read the settings from the environment and the file.

    Raises:
        InvalidInput: a setting has an invalid value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "TUWEN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(
            f"the setting {name} is invalid: {first['msg']}", value=first["input"], where=name
        ) from error
