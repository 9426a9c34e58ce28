"""Model sources: a name such as ``hub:ORG/NAME@REVISION`` becomes a local Hugging Face checkpoint with a digest."""
