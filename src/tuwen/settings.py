"""Settings: read from the environment and a file by the public API and the command line, then passed down as values.

`TUWEN_<FIELD>` sets a field; so does a line of `~/.config/tuwen/settings.toml` (`TUWEN_SETTINGS` names another file).
"""

import os
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tuwen.errors import InvalidInput

DEFAULT_MODEL = "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"


def _home(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given) / "tuwen"
    try:
        return Path.home() / fallback / "tuwen"
    except RuntimeError as error:  # neither HOME nor an entry in the password file, as in some containers
        hint = "set HOME, or XDG_DATA_HOME, XDG_CACHE_HOME and XDG_CONFIG_HOME"
        raise InvalidInput(f"this user has no home folder: {hint}", value=variable, hint=hint) from error


class Settings(BaseSettings):
    """What a person may set once for all commands."""

    model_config = SettingsConfigDict(env_prefix="TUWEN_", frozen=True, extra="forbid", use_attribute_docstrings=True)

    models: Path = Field(default_factory=partial(_home, "XDG_DATA_HOME", ".local/share"))
    """where pulled models are kept"""
    cache: Path = Field(default_factory=partial(_home, "XDG_CACHE_HOME", ".cache"))
    """where compiled models and digests are kept; may be deleted at any time"""
    offline: bool = False
    """whether `pull` and `export` may not ask the model hub; no other command ever does"""
    index: str | None = None
    """the index of a command that is not told which: a folder, or `qdrant://host:6333/name`"""
    qdrant_key: SecretStr | None = None
    """the key that a Qdrant cluster wants"""
    qdrant_shards: int | None = Field(default=None, ge=1)
    """into how many parts a new index in a cluster is cut; as the cluster does it where it is not set"""
    qdrant_replicas: int | None = Field(default=None, ge=1)
    """how many copies of each part a new index in a cluster has; likewise"""
    url: str | None = None
    """the service whose index is used where no index is given, e.g. `http://127.0.0.1:8000`"""
    key: str | None = None
    """the key that the service wants"""
    default_model: str = DEFAULT_MODEL
    """the model of a new index of photos"""
    runtime: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """what computes: `auto` takes OpenVINO on CPUs, ONNX Runtime on accelerators"""
    device: str = "auto"
    """what it computes on, e.g. `cpu`, `cuda:1`, `openvino:GPU`; see `tuwen doctor`"""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """what it computes in; `auto` never takes int8 where the model has something better"""
    threads: int | None = Field(default=None, ge=1)
    """threads for computing; all cores this process may use where it is not set"""
    max_pixels: int = Field(default=178_956_970, ge=1)
    """a picture of more pixels is rejected as a decompression bomb"""
    lock_timeout: float = Field(default=10.0, ge=0)
    """seconds to wait for another process that holds an index"""
    quantize_above: int = Field(default=50_000, ge=0)
    """an index of more rows searches int8 vectors and rescores with the exact ones"""
    serve_key: str | None = None
    """the key of a service that `tuwen serve` begins, where `--key` says nothing: who has it may read and write"""
    serve_read_key: str | None = None
    """likewise, for reading alone"""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values given in code win over the environment, the environment wins over the file."""
        file = Path(os.environ.get("TUWEN_SETTINGS") or _home("XDG_CONFIG_HOME", ".config") / "settings.toml")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def read_settings() -> Settings:
    """The settings, from environment and file.

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
