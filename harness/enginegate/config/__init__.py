"""One YAML file per model becomes frozen, validated values."""
