"""Videos: which frames are taken, what cannot be decoded, and extractors of images on frames."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import CODECS, gif, moving, numbered, numbers, told, turned, write_video

from schemas.recipe import VideoModality
from transforms.extractors.base import BadRecord, Batch, Extractor, State
from transforms.extractors.image.color import Color
from transforms.extractors.image.hog import Hog
from transforms.extractors.image.pixels import Pixels
from transforms.extractors.video import decoding
from transforms.extractors.video.decoding import decode
from transforms.extractors.video.frames import OnFrames
from transforms.extractors.video.reader import positions


def modality(**fields: Any) -> VideoModality:
    source, extract = {"path": "videos.csv"}, {"hog": None}
    return VideoModality.model_validate(
        {"kind": "video", "source": source, "extract": extract, **fields}
    )


def kind_of(payload: bytes, **fields: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(payload, modality(**fields))
    assert caught.value.message
    return caught.value.kind


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same 40 frames in each kind of file."""
    folder = tmp_path_factory.mktemp("videos")
    frames = numbered(40)
    made = {name: write_video(folder / name, frames) for name in CODECS}
    return made | {"animated.gif": gif(frames)}


KINDS = [*CODECS, "animated.gif"]


# --- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_frames_from_the_middle_of_equal_parts(files: dict[str, bytes], name: str) -> None:
    frames = decode(files[name], modality(frames=4))
    assert numbers(frames) == [5, 15, 25, 35]
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((32, 48, 3), "uint8")}


def test_all_frames_where_there_are_fewer(files: dict[str, bytes]) -> None:
    assert numbers(decode(files["ffv1.avi"], modality(frames=256))) == list(range(40))
    assert numbers(decode(gif(numbered(1)), modality())) == [0]


@given(count=st.integers(1, 10**6), wanted=st.integers(1, 256))
def test_positions_are_equally_far_apart_and_centred(count: int, wanted: int) -> None:
    found = positions(count, wanted)
    assert len(found) == min(count, wanted)
    assert 0 <= found[0] <= found[-1] < count
    assert {b - a for a, b in itertools.pairwise(found)} <= {
        count // len(found),
        -(-count // len(found)),
    }
    before, after = found[0], count - 1 - found[-1]
    assert abs(before - after) <= 1


def test_pixels_come_as_they_are_red_first(tmp_path: Path) -> None:
    frames = moving(5)
    got = decode(write_video(tmp_path / "ffv1.avi", frames), modality())
    assert np.abs(np.array(got, int) - np.array(frames)).mean() < 8  # of colours at half the size
    red = np.broadcast_to(np.array([250, 10, 20], np.uint8), (32, 32, 3))
    (first, *_) = decode(write_video(tmp_path / "ffv1.avi", [red] * 3), modality())
    assert np.abs(first.reshape(-1, 3).mean(0) - [250, 10, 20]).max() < 5


def test_the_orientation_of_a_camera_is_applied(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "mpeg 4.mp4", moving(5))
    got = decode(turned(plain), modality())
    want = [np.rot90(frame, -1) for frame in decode(plain, modality())]
    np.testing.assert_array_equal(got, want)


def test_large_frames_are_shrunk(tmp_path: Path) -> None:
    payload = write_video(tmp_path / "ffv1.avi", moving(3, 48, 96))
    whole = decode(payload, modality(max_side=96))
    small = decode(payload, modality(max_side=32))
    assert whole[0].shape == (48, 96, 3)
    want = [cv2.resize(frame, (32, 16), interpolation=cv2.INTER_AREA) for frame in whole]
    assert np.abs(np.array(small, int) - want).max() <= 1


def test_many_large_frames(tmp_path: Path) -> None:
    frames = moving(150, 512, 512)
    payload = write_video(tmp_path / "motion jpeg.avi", frames)
    got = decode(payload, modality(frames=150, max_pixels=512 * 512))
    assert [frame.shape for frame in got] == [(512, 512, 3)] * 150


def test_frames_are_counted_where_a_header_tells_a_wrong_number(files: dict[str, bytes]) -> None:
    avi = files["ffv1.avi"]
    for number in (0, 10, 41, 79):
        assert numbers(decode(told(avi, number), modality(frames=4))) == [5, 15, 25, 35]


# --- what cannot be decoded --------------------------------------------------------------------


def test_a_video_of_which_most_is_lost_is_damaged(files: dict[str, bytes]) -> None:
    with pytest.raises(BadRecord, match="damaged: only 40 of 81 frames") as caught:
        decode(told(files["ffv1.avi"], 81), modality())
    assert caught.value.kind == "unreadable"


def test_what_is_no_video(files: dict[str, bytes]) -> None:
    assert kind_of(b"") == "empty"
    for start in (b"<html>", b"RIFF\0\0\0\0WAVEfmt ", b"#EXTM3U\nhttp://example.com/a.ts\n"):
        with pytest.raises(BadRecord, match="it starts with") as caught:
            decode(start + bytes(500), modality())
        assert caught.value.kind == "unreadable"
    assert kind_of(files["vp8.webm"][:40] + bytes(4000)) == "unreadable"


@pytest.mark.parametrize("name", [n for n in KINDS if not n.endswith(("flv", "ts", "wmv"))])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_cut_file_is_truncated(files: dict[str, bytes], name: str, share: float) -> None:
    payload = files[name]
    assert kind_of(payload[: int(share * len(payload))]) == "truncated"


def test_bounds_on_pixels_and_frames(files: dict[str, bytes]) -> None:
    for name in ("ffv1.avi", "vp8.webm", "animated.gif"):
        assert len(decode(files[name], modality(max_pixels=32 * 48, max_frames=40))) == 8
        assert kind_of(files[name], max_pixels=32 * 48 - 1) == "too_large"
        assert kind_of(files[name], max_frames=39) == "too_long"


def test_nothing_is_printed(files: dict[str, bytes], capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("mpeg 4.ts", "motion jpeg.avi", "mpeg 4.mp4"):
        damaged = bytearray(files[name])
        for at in range(len(damaged) // 2, len(damaged), 37):
            damaged[at] ^= 0x55
        with contextlib.suppress(BadRecord):
            decode(bytes(damaged), modality())
    assert kind_of(files["vp8.webm"][:40] + bytes(4000)) == "unreadable"
    assert capfd.readouterr() == ("", "")


# --- the process that reads --------------------------------------------------------------------


def process_id() -> int:
    process = decoding._READER._process
    assert process is not None
    return process.pid


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (signal.SIGSEGV, BadRecord, r"damaged so that FFmpeg dies of it \(SIGSEGV\)"),
        (signal.SIGKILL, RuntimeError, "ended with status -9; it may have run out of memory"),
    ],
)
def test_a_process_that_dies_is_replaced(
    files: dict[str, bytes], how: signal.Signals, error: type[Exception], message: str
) -> None:
    payload = files["ffv1.avi"]
    decode(payload, modality())
    first = process_id()
    os.kill(first, signal.SIGSTOP)  # so that it dies at work

    def end() -> None:
        time.sleep(0.1)
        os.kill(first, how)
        os.kill(first, signal.SIGCONT)

    killer = threading.Thread(target=end)
    killer.start()
    with pytest.raises(error, match=message):
        decode(payload, modality())
    killer.join()
    assert len(decode(payload, modality())) == 8
    assert process_id() != first


def test_a_forked_process_has_a_reader_of_its_own(files: dict[str, bytes]) -> None:
    payload = files["vp8.webm"]
    want = decode(payload, modality())
    ours = process_id()
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(decode(payload, modality()), want) and process_id() != ours
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert np.array_equal(decode(payload, modality()), want)
    assert process_id() == ours


# --- extractors of images on frames ------------------------------------------------------------


class Brightness(Extractor):
    """Learns the mean brightness of training images, and tells how far an image is from it."""

    kind = "image"
    rounds = 1

    def names(self) -> list[str]:
        return ["brightness"]

    def transform(self, batch: Batch) -> np.ndarray:
        for row, image in enumerate(batch.items):
            if image.max() == 0:
                batch.fail(row, "dark", "all is black")
        values = [[image.mean() - self.mean] for image in batch.items]
        return np.array(values, np.float32).reshape(-1, 1)

    def partial(self, batch: Batch) -> State:
        return {
            "sum": np.array([image.sum() / image.size for image in batch.items]).sum(keepdims=True),
            "count": np.array([len(batch)]),
        }

    def merge(self, states: Sequence[State]) -> State:
        return {name: sum(state[name] for state in states) for name in ("sum", "count")}

    def load(self, fitted: State) -> None:
        self.mean = float(fitted["sum"][0] / fitted["count"][0])


VIDEOS = [moving(n, 20 + 7 * n, 30, seed=n) for n in (1, 8, 3, 5, 2, 8)]
MAKE: list[Callable[[], Extractor]] = [
    lambda: Hog(size=32),
    lambda: Color(),
    lambda: Pixels(size=4, color=True),
]


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_numbers_of_a_video_are_those_of_its_frames_pooled(make: Any, pool: Any) -> None:
    on_frames, images = OnFrames(make(), pool), make()
    got = on_frames.transform(Batch(VIDEOS))
    pooled = np.mean if pool == "mean" else np.max
    want = [pooled(images.transform(Batch(video)), axis=0) for video in VIDEOS]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert got.dtype == np.float32
    assert on_frames.names() == images.names()
    assert on_frames.transform(Batch([])).shape == (0, len(images.names()))


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("pool", ["mean", "max"])
@given(data=st.data())
@settings(max_examples=10)
def test_a_row_does_not_depend_on_its_batch(make: Any, pool: Any, data: st.DataObject) -> None:
    extractor = OnFrames(make(), pool)
    items = data.draw(st.permutations(VIDEOS))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(Batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    whole = extractor.transform(Batch(items))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert np.isfinite(whole).all()


def test_what_an_extractor_learns_it_learns_from_all_frames() -> None:
    on_frames, images = OnFrames(Brightness(), "mean"), Brightness()
    frames = [frame for video in VIDEOS for frame in video]
    parts = [on_frames.partial(Batch(VIDEOS[a:b])) for a, b in ((0, 1), (1, 4), (4, 6))]
    fitted = on_frames.finish(on_frames.merge(parts))
    want = images.finish(images.partial(Batch(frames)))
    assert on_frames.rounds == 1
    assert fitted["count"] == want["count"] == len(frames)
    np.testing.assert_allclose(fitted["sum"], want["sum"], rtol=1e-12)
    on_frames.load(fitted)
    np.testing.assert_allclose(on_frames.transform(Batch([frames]))[0, 0], 0, atol=1e-4)


def test_a_frame_that_fails_fails_its_video() -> None:
    extractor = OnFrames(Brightness(), "mean")
    extractor.load({"sum": np.array([0.0]), "count": np.array([1])})
    grey, black = np.full((4, 4, 3), 9, np.uint8), np.zeros((4, 4, 3), np.uint8)
    batch = Batch([[grey, grey], [grey, black, black], [grey]])
    extractor.transform(batch)
    assert {row: (bad.kind, bad.message) for row, bad in batch.failures.items()} == {
        1: ("dark", "frame 1: all is black")
    }
