"""OpenVINO GenAI on the CPU: the embedded default. Its libraries are imported by ``build`` and ``load`` alone."""

from enginegate.engines.openvino.backend import OpenVinoBackend

__all__ = ["OpenVinoBackend"]
