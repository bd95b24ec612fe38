"""Where everything lies in an output folder: a public contract.

recipe.yaml                          the recipe with every default written out
records/<modality>/bucket-*.parquet  keys, where they came from, payloads or URIs or values
features/<modality>/bucket-*.parquet key and feature vector, one row a key
fused/bucket-*.parquet               what people read: one row a key, all modalities
dead_letters/<step>/<modality>/      records that could not be used, and why
fitted/                              what was fitted: arrays (npz), networks (safetensors) and JSON
statistics/                          mergeable sums of buckets, from which it was fitted
model/                               the trained model: model.json, and its estimators (skops)
predictions/                         out-of-fold and test predictions, or those of `predict`
report/                              audit.json, metrics.json, index.html
receipts/<step>/<modality>/          one a step and bucket: what is done, and from what
scratch/                             rows on their way between local workers, while they are at work
run.log, launcher.log                what Beam and workers said, and a detached launcher
job.json                             who is or was at work on it: what `sensorium status` reads
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas import storage

FUSED = "fused"  # stands for the modality in the receipts of steps that concern all of them

LOGS = ("run.log", "launcher.log")  # of the last job, where the output is local


@dataclass(frozen=True)
class Layout:
    """Paths below an output folder or URL."""

    root: str
    buckets: int

    def _bucket(self, folder: str, bucket: int, ending: str = ".parquet") -> str:
        # One width in an output, so that names are in the order of buckets.
        width = max(5, len(str(self.buckets)))
        return self.at(folder, f"bucket-{bucket:0{width}d}-of-{self.buckets:0{width}d}{ending}")

    def bucket_of(self, name: str) -> int | None:
        """The bucket that a file's name is of; None if it is no such name in this layout."""
        first, _, rest = name.removeprefix("bucket-").partition("-of-")
        number, _, ending = rest.partition(".")
        if ending not in ("parquet", "json", "npz") or len(first) != len(number):
            return None
        if not (first.isdecimal() and number.isdecimal()) or int(number) != self.buckets:
            return None
        return int(first) if int(first) < self.buckets else None

    @property
    def prefixes(self) -> list[str]:
        """What names of buckets' files start with, no more than 10,000 of them with each."""
        digits = max(5, len(str(self.buckets))) - 4
        return [f"bucket-{i:0{digits}d}" for i in range(-(-self.buckets // 10_000))]

    def at(self, *parts: str) -> str:
        """A path below the output."""
        return storage.join(self.root, *parts)

    def relative(self, path: str) -> str:
        """A path below the output, without the output's own."""
        return path.removeprefix(self.root).lstrip("/")

    def tables(self, folder: str) -> list[str]:
        """The Parquet files that a folder may hold, one a bucket."""
        return [self._bucket(folder, bucket) for bucket in range(self.buckets)]

    def records(self, modality: str, bucket: int) -> str:
        """Records of one modality and bucket."""
        return self._bucket(f"records/{modality}", bucket)

    def features(self, modality: str, bucket: int) -> str:
        """Features of one modality and bucket."""
        return self._bucket(f"features/{modality}", bucket)

    def fused(self, bucket: int) -> str:
        """The fused data set's rows of one bucket."""
        return self._bucket("fused", bucket)

    def predictions(self, bucket: int) -> str:
        """Predictions for new records of one bucket."""
        return self._bucket("predictions", bucket)

    def dead_letters(self, step: str, modality: str, bucket: int) -> str:
        """Records of one bucket that a step could not use."""
        return self._bucket(f"dead_letters/{step}/{modality}", bucket)

    def receipt(self, step: str, modality: str, bucket: int) -> str:
        """The receipt that a step is done for one modality and bucket."""
        return self._bucket(f"receipts/{step}/{modality}", bucket, ".json")

    def statistics(self, name: str, bucket: int) -> str:
        """Mergeable sums of one bucket, or of the group of buckets that starts with it."""
        return self._bucket(f"statistics/{name}", bucket, ".npz")

    def fitted(self, name: str) -> str:
        """What was fitted, by name, with its ending."""
        return self.at("fitted", name)

    @property
    def recipe(self) -> str:
        """The recipe with every default written out."""
        return self.at("recipe.yaml")

    @property
    def model(self) -> str:
        """The trained model: what it is made of; its estimators are beside it."""
        return self.at("model", "model.json")

    @property
    def strategy(self) -> str:
        """The strategy of fusion that was chosen, where the recipe leaves that open, and why."""
        return self.at("fitted", "strategy.json")

    @property
    def audit(self) -> str:
        """Counts of every step, and whether they add up."""
        return self.at("report", "audit.json")

    @property
    def metrics(self) -> str:
        """Scores of the trained model."""
        return self.at("report", "metrics.json")

    @property
    def report(self) -> str:
        """The report for people."""
        return self.at("report", "index.html")

    @property
    def begun(self) -> str:
        """The sign that a worker of the last run was there."""
        return self.at("receipts", "begun.json")

    @property
    def scratch(self) -> str:
        """Where local workers put what only they pass on to each other."""
        return self.at("scratch")

    @property
    def state(self) -> str:
        """What each step was last run with: how a new run knows what is stale."""
        return self.at("receipts", "state.json")

    @property
    def job(self) -> str:
        """The last job on this output: which process, how it goes or how it ended."""
        return self.at("job.json")
