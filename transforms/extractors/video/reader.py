"""The program of a process that reads videos, one after the other: see `decoding`.

Started as a script, so that it imports no more than OpenCV. It answers each request on standard
input with a reply on standard output. Both begin with a line of JSON. A request is followed by
the bytes of a file, a reply by the pixels of the frames.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import BinaryIO

import cv2
import numpy as np

BYTES_A_PIXEL = 64  # for a decoder: 16 reference frames of 10 bits, and a frame of its own
BYTES_BESIDES = 64 << 20
SECONDS = 600  # of the processor for one file: who needs more hangs
GROWTH = 16 << 20  # what may stay in use before the process ends, to be replaced by a fresh one
# A frame that is damaged is told as the end of the file is; the frames after it may be whole.
PATIENCE = 64
PARAMETERS = (
    *(cv2.CAP_PROP_N_THREADS, 1),
    # By the clock on the wall, so that what is read would depend on the machine's load.
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 0),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, 0),
)


class Refused(Exception):
    """A video that cannot be used: kind of error, and what is wrong, for a person."""


def positions(count: int, wanted: int) -> list[int]:
    """The middles of equal parts: numbers of at most `wanted` frames of `count`.

    References:
        Wang, Xiong, Wang, Qiao, Lin, Tang, Van Gool: Temporal segment networks. ECCV 2016.
    """
    wanted = min(count, wanted)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def read_frames(payload: bytes, options: dict) -> list[np.ndarray]:
    """Equally spaced frames of a video, uint8[height, width, 3], red, green, blue.

    The number of frames in a header is a guess of many formats, so all frames are counted; where
    the guess was wrong, the video is read once more.

    Args:
        payload: the file.
        options: frames, max_pixels, max_side and max_frames of the modality; and `indexed`,
            whether the header counts what is there.

    Raises:
        Refused: the video cannot be used.
    """
    capture = _open(payload, options)
    told = int(min(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0), 2**31))
    if options["indexed"] and told > options["max_frames"]:
        raise Refused(
            "too_long", f"{told} frames are more than max_frames, {options['max_frames']}"
        )
    wanted = positions(told, options["frames"])
    count, frames = _sample(capture, wanted, options)
    if options["indexed"] and 0 < 2 * count < told:
        raise Refused("unreadable", f"damaged: only {count} of {told} frames can be decoded")
    if count and positions(count, options["frames"]) != wanted:
        capture = _open(payload, options)
        _, frames = _sample(capture, positions(count, options["frames"]), options)
    if not frames:
        codec = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        name = codec.to_bytes(4, "little").decode("latin-1")
        raise Refused("unreadable", f"no frame can be decoded; its codec is {name!r}")
    return frames


def _open(payload: bytes, options: dict) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(io.BytesIO(payload), cv2.CAP_FFMPEG, PARAMETERS)  # type: ignore[call-overload]
    if not capture.isOpened():
        raise Refused("unreadable", "FFmpeg finds no video that it can read in it")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # OpenCV 4.11 does not by itself
    width, height = (
        int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width <= 0 or height <= 0:
        raise Refused("unreadable", f"a video of {width} x {height} pixels")
    if width * height > options["max_pixels"]:
        limit = options["max_pixels"]
        raise Refused("too_large", f"{width} x {height} pixels are more than max_pixels, {limit}")
    return capture


def _sample(
    capture: cv2.VideoCapture, wanted: Sequence[int], options: dict
) -> tuple[int, list[np.ndarray]]:
    """How many frames there are, and those that are wanted, small."""
    frames: list[np.ndarray] = []
    count = failed = 0
    chosen = set(wanted)
    while failed < PATIENCE:
        if not capture.grab():
            failed += 1
            continue
        if count == options["max_frames"]:
            raise Refused("too_long", f"more frames than max_frames, {options['max_frames']}")
        if count in chosen:
            there, frame = capture.retrieve()
            if there:
                frames.append(_small(frame, options["max_side"]))
        count, failed = count + 1, 0
    return count, frames


def _small(frame: np.ndarray, max_side: int) -> np.ndarray:
    height, width = frame.shape[:2]
    if max(height, width) > max_side:
        scale = max_side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


# --- the process -----------------------------------------------------------------------------


def _memory() -> int | None:
    """Address space in use, in bytes; None where the system does not tell (it is no Linux)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _limit(base: int | None, payload: int, options: dict) -> None:
    """Bound what the next file may cost, so that a header cannot claim what it likes."""
    if base is not None:
        frames = 3 * options["frames"] * options["max_side"] ** 2
        room = BYTES_A_PIXEL * options["max_pixels"] + BYTES_BESIDES + frames
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = base + payload + room
        resource.setrlimit(
            resource.RLIMIT_AS,
            (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard),
        )
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, hard))


def _answer(payload: bytes, options: dict) -> tuple[dict, list[np.ndarray]]:
    try:
        frames = read_frames(payload, options)
    except Refused as refused:
        return {"refused": refused.args}, []
    except (MemoryError, cv2.error) as error:
        first = str(error).strip().partition("\n")[0]
        return {"refused": ("unreadable", f"{type(error).__name__}: {first}")}, []
    return {"shapes": [frame.shape for frame in frames]}, frames


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    cv2.setNumThreads(1)
    base = _memory()
    replies.write(b"ready\n")
    replies.flush()
    while line := requests.readline():
        options = json.loads(line)
        _limit(base, options["bytes"], options)
        reply, frames = _answer(requests.read(options["bytes"]), options)
        kept = (_memory() or 0) - sum(frame.nbytes for frame in frames)
        last = base is not None and kept > base + GROWTH
        replies.write(json.dumps(reply | {"last": last}).encode() + b"\n")
        for frame in frames:
            replies.write(frame.data)
        replies.flush()
        if last:
            break


if __name__ == "__main__":
    # The replies' channel is not for what a library may print.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, channel)
