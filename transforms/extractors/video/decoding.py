"""Videos: from the bytes of a file to frames.

FFmpeg, which OpenCV reads videos with, is a large body of C that is fed whatever people send:
a header can make it ask for gigabytes, a damaged picture can hold what was in memory before,
and a fault of it would take the whole worker along. So it works in a process of its own
(`reader`), with bounds on memory and time, whose memory is filled with one value before it is
used. If that process dies, the file is a dead letter and the next file gets a new process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import numpy as np

from schemas.recipe import VideoModality
from transforms.extractors.base import BadRecord

_STARTS: dict[bytes, str] = {
    b"\x1aE\xdf\xa3": "matroska",
    b"GIF8": "gif",
    b"OggS": "ogg",
    b"FLV\x01": "flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\0\0\x01\xba": "mpeg",
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_INDEXED = ("avi", "mov")  # whose headers count the frames that are there
_ENVIRONMENT = {
    # Nothing but these formats, none of which names other files or addresses to be opened.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "format_whitelist;avi,mov,matroska,gif,ogg,flv,asf,mpeg,mpegts"
    "|protocol_whitelist;none",
    # Memory that is asked for is filled with a byte (GNU C library), and what is freed is given
    # back, so that damaged files give the same pixels, or none, in each process.
    "MALLOC_PERTURB_": "85",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 17),
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGXCPU)


def decode(payload: bytes, modality: VideoModality) -> list[np.ndarray]:
    """Turn the bytes of a video file into equally spaced frames.

    Reads what the FFmpeg within OpenCV reads of MP4 and QuickTime, AVI, Matroska and WebM, GIF,
    Ogg, FLV, ASF and MPEG. The orientation noted by a camera is applied; frames with a longer
    side than `max_side` are shrunk (averaged). Of a video of T frames, those in the middle of
    `frames` equal parts are taken, all if there are fewer. A file that was cut short is found
    where its format tells: MP4, QuickTime, AVI, Matroska, WebM with a size, GIF.

    Memory: the process that decodes takes 64 bytes for each of `max_pixels`, 64 MiB, the file
    and the frames that it gives at most, beyond what it has when it starts.

    Args:
        payload: the file.
        modality: gives `frames`, `max_pixels`, `max_side` and `max_frames`.

    Returns:
        At least one uint8[height, width, 3], red, green, blue, in the order of time.

    Raises:
        BadRecord: `empty` (no bytes), `unreadable`, `truncated`, `too_large` or `too_long`.
    """
    if not payload:
        raise BadRecord("empty", "the file has no bytes")
    container = _container(payload)
    missing = _missing_bytes(payload, container)
    if missing > 0:
        raise BadRecord(
            "truncated", f"the file is cut short or damaged: at least {missing} bytes are missing"
        )
    options = {
        "bytes": len(payload),
        "indexed": container in _INDEXED,
        "frames": modality.frames,
        "max_pixels": modality.max_pixels,
        "max_side": modality.max_side,
        "max_frames": modality.max_frames,
    }
    return _READER.read(payload, options)


def _container(payload: bytes) -> str:
    if payload.startswith(b"RIFF") and payload[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if payload[4:8] in _BOXES:
        return "mov"
    if payload[:1] == b"G" and payload[188:189] == b"G" and payload[376:377] in (b"G", b""):
        return "mpegts"  # packets of 188 bytes
    for start, name in _STARTS.items():
        if payload.startswith(start):
            return name
    known = "MP4, QuickTime, AVI, Matroska, WebM, GIF, Ogg, FLV, ASF or MPEG"
    raise BadRecord("unreadable", f"not a {known} file: it starts with {payload[:12]!r}")


# --- files that were cut short ---------------------------------------------------------------


def _missing_bytes(payload: bytes, container: str) -> int:
    """How many bytes the file lacks by its own account; 0 or less if none, or if it cannot tell."""
    if container == "avi":
        size = int.from_bytes(payload[4:8], "little")
        return 0 if size == 0xFFFFFFFF else 8 + size - len(payload)
    if container == "gif":
        return 0 if payload[-64:].rstrip(b"\0").endswith(b";") else 1
    if container == "mov":
        return _missing_of_boxes(payload)
    if container == "matroska":
        return _missing_of_segment(payload)
    return 0


def _missing_of_boxes(payload: bytes) -> int:
    """From the sizes of the outermost boxes (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(payload):
        size, header = int.from_bytes(payload[at : at + 4], "big"), 8
        if size == 1 and at + 16 <= len(payload):
            size, header = int.from_bytes(payload[at + 8 : at + 16], "big"), 16
        if size == 0:  # to the end of the file
            return 0
        if size < header:
            raise BadRecord("unreadable", f"damaged: a box of {size} bytes at byte {at}")
        at += size
    return at - len(payload)


def _missing_of_segment(payload: bytes) -> int:
    """From the size of the segment that follows the header (RFC 8794, 5 and 6; RFC 9559, 5.1)."""
    at = 0
    for _ in range(2):
        at += 4  # both names have 4 bytes
        first = payload[at] if at < len(payload) else 0
        length = 9 - first.bit_length()
        if length > 8 or at + length > len(payload):
            return 0
        mask = (1 << 7 * length) - 1
        size = int.from_bytes(payload[at : at + length], "big") & mask
        if size == mask:  # not known: it was streamed
            return 0
        at += length + size
    return at - len(payload)


# --- the process that reads ------------------------------------------------------------------


class _Reader:
    """A process that reads videos, started when it is needed; one for all threads of this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def read(self, payload: bytes, options: dict) -> list[np.ndarray]:
        """Frames of a file; raises BadRecord, or RuntimeError where the machine is at fault."""
        with self._lock:
            process = self._running()
            try:
                reply, frames = _ask(process, payload, options)
            except (BrokenPipeError, EOFError):
                raise self._death() from None
            if reply["last"]:
                self._end()
        if "refused" in reply:
            raise BadRecord(*reply["refused"])
        return frames

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._process
            self._end()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            # -P: this folder's modules are not to be found by their bare names.
            [sys.executable, "-P", str(Path(__file__).with_name("reader.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the process that reads videos did not start ({self._end()})")
        return self._process

    def _end(self) -> int:
        """Exit status of a process that has ended or is about to."""
        process, self._process = self._process, None
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return process.wait()

    def _death(self) -> Exception:
        status = self._end()
        if -status in _FAULTS:
            name = signal.Signals(-status).name
            return BadRecord("unreadable", f"damaged so that FFmpeg dies of it ({name})")
        killed = "; it may have run out of memory" if -status == signal.SIGKILL else ""
        return RuntimeError(f"the process that reads videos ended with status {status}{killed}")


def _ask(
    process: subprocess.Popen[bytes], payload: bytes, options: dict
) -> tuple[dict, list[np.ndarray]]:
    """A reply and its frames; raises BrokenPipeError or EOFError if the process ends before."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(options).encode() + b"\n")
    process.stdin.write(payload)
    process.stdin.flush()
    replies = cast(io.BufferedReader, process.stdout)
    line = replies.readline()
    if not line:
        raise EOFError
    reply = json.loads(line)
    frames = [np.empty(shape, np.uint8) for shape in reply.get("shapes", [])]
    for frame in frames:
        if replies.readinto(frame.data.cast("B")) < frame.size:
            raise EOFError
    return reply, frames


_READER = _Reader()
