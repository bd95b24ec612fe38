"""Deep models as extractors.

onnx: a model in an ONNX file; runtime: loading it.
handler: a ModelHandler of Apache Beam, or what has its methods.
sharing: one model a process, whoever asks for it.
"""

import os

# ONNX Runtime 1.32 and later report to their maker from a thread, which is started when they are
# imported. Data sets are not its affair, and worker processes are forked from one that has no
# thread. Who wants it can set 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
