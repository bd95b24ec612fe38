"""Become one Python SDK worker of the runner that started this process.

    python -m infra.workers.start --id=1-1 --provision_endpoint=localhost:40123

The contract is that of the `boot` program in Beam's container images
(sdks/python/container/boot.go): the runner names itself and the worker, and all else is asked of
its provision service. Unlike that program this one installs nothing: the interpreter has the
package and all it needs.
"""

from __future__ import annotations

import argparse
import os
import sys

from pipelines.workers import THREAD_LIMITS

PROVISION_SECONDS = 60


def arguments(given: list[str]) -> argparse.Namespace:
    """The worker's id and where its runner is."""
    parser = argparse.ArgumentParser(description="Become one Python SDK worker of a runner.")
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    found, _ = parser.parse_known_args(given)  # the other endpoints are given by that one too
    for name, value in vars(found).items():
        setattr(found, name, value.strip("'"))  # Prism puts its values into quotes
    return found


def environment(worker_id: str, provision_endpoint: str) -> dict[str, str]:
    """The variables from which Beam's worker learns all about its runner.

    Raises:
        SystemExit: if the runner does not answer in time.
    """
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
    from google.protobuf import json_format, text_format

    try:
        with grpc.insecure_channel(provision_endpoint) as channel:
            reply = services.ProvisionServiceStub(channel).GetProvisionInfo(
                messages.GetProvisionInfoRequest(),
                metadata=[("worker_id", worker_id)],
                timeout=PROVISION_SECONDS,
                wait_for_ready=True,
            )
    except grpc.RpcError as error:
        sys.exit(f"worker {worker_id}: no runner at {provision_endpoint}: {error.details()}")
    info = reply.info
    return {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }


def one_thread() -> None:
    """Keep libraries from starting threads: the workers are the parallelism."""
    import cv2
    import pyarrow as pa

    cv2.setNumThreads(1)
    pa.set_cpu_count(1)


def main() -> None:
    """Serve the runner until it ends its control stream."""
    found = arguments(sys.argv[1:])
    os.environ.update(THREAD_LIMITS)  # before NumPy is imported, which reads them once
    os.environ.update(environment(found.id, found.provision_endpoint))
    one_thread()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
