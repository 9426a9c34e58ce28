"""The JSON Schema of configuration files, for editors that check YAML while it is written."""

from __future__ import annotations

from typing import Any

from enginegate.config.schema import ConfigFile, EnginesSection
from enginegate.engines.options import options_model
from enginegate.engines.registry import known_backends, load_backend

#: The version of JSON Schema in which pydantic writes.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """The schema, with the runtime keys of every backend that is known here.

    A file that it refuses is refused when it is read; what keys mean for each other is checked only then. Files with
    option names of another project (a dialect) are not covered. Raises ConfigError or CapabilityError for an installed
    backend that cannot be used.
    """
    schema = ConfigFile.model_json_schema()
    definitions = schema["$defs"]
    engines = definitions[EnginesSection.__name__]
    by_backend = {}
    for name in known_backends():
        runtime = options_model(load_backend(name)).model_json_schema()
        definitions |= runtime.pop("$defs", {})
        own = f"{EnginesSection.__name__}.{name}"
        definitions[own] = {**engines, "properties": {**engines["properties"], "runtime": runtime}}
        by_backend[name] = {"$ref": f"#/$defs/{own}"}
    schema["properties"]["engines"]["properties"] = by_backend
    return {"$schema": DIALECT, **schema, "title": "enginegate configuration"}
